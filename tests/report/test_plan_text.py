"""A plan as text and as JSON, from a plan written by hand."""

from __future__ import annotations

import json
from dataclasses import replace

from vramtop.estimator.plan import Arithmetic, Configuration, Plan, Traffic, Wish
from vramtop.estimator.result import COMPONENTS, Footprint
from vramtop.estimator.workload import Device, Lora, Model, Parallel, Workload
from vramtop.report import plan_json, plan_text

GIB = 1 << 30
BASE = Workload(
    Model("toy-7b", {}),
    sequence=2048,
    precision="amp-bf16",
    optimizer_implementation="fused",
    device=Device("NVIDIA A100 80GB PCIe", 80 * GIB),
    parallel=Parallel(gpus=4),
)


def footprint(gib: float) -> Footprint:
    size = int(gib * GIB)
    return Footprint(
        "closed-form", dict.fromkeys(COMPONENTS, 0), (), size - 2, size - 1, size, "backward"
    )


SHARDED = Configuration(
    workload=replace(
        BASE, batch=4, grad_accumulation=4, parallel=Parallel(gpus=4, zero=2), optimizer="adamw"
    ),
    footprint=footprint(60),
    arithmetic=Arithmetic("amp-bf16", "adamw", None),
    passes=4,
    recomputation=0.0,
    bubble=0.0,
    traffic=(
        Traffic("gradient reduce-scatter", 20 * GIB, "a paper"),
        Traffic("weight all-gather", 5 * GIB, "a paper"),
    ),
)
PIPELINED = Configuration(
    workload=replace(
        BASE,
        batch=2,
        checkpointing="full",
        parallel=Parallel(gpus=4, tensor=2, sequence=True, pipeline=2, micro_batches=32),
    ),
    footprint=footprint(40),
    arithmetic=Arithmetic("amp-bf16", "adamw", None),
    passes=32,
    recomputation=0.33,
    bubble=1 / 32,
    traffic=(Traffic("pipeline point to point", GIB, "another paper"),),
)
ADAPTERS = Configuration(
    workload=replace(BASE, batch=16, precision="bf16", lora=Lora(16), parallel=Parallel(gpus=4)),
    footprint=footprint(30),
    arithmetic=Arithmetic("bf16", "adamw", Lora(16), ("LoRA of rank 16: only adapters",), 8),
    passes=1,
    recomputation=0.0,
    bubble=0.0,
    traffic=(Traffic("gradient all-reduce", 1 << 20, "torch"),),
)
PLAN = Plan(
    Wish(BASE, 64), 78 * GIB, (SHARDED, PIPELINED, ADAPTERS), None, 1234, (), ("by closed form",)
)

EXPECTED = """\
toy-7b on 4 × NVIDIA A100 80GB PCIe (80.0 GiB), effective batch 64 × 2048 tokens
wanted: amp-bf16, adamw; 1,234 ways computed

The training's arithmetic stays as wanted
    PROCESS  OF GPU      BATCH  CHECKPOINT  SPREAD        AGAIN  BUBBLE  SENT/STEP
1  60.0 GiB     75%  4 × 4 × 4  none        ZeRO-2 4          –       –   25.0 GiB
2  40.0 GiB     50%     2 × 32  full        TP 2 SP PP 2    33%      3%   1.00 GiB
  1  vramtop estimate toy-7b --gpu a100 --batch 4 --seq 2048 --precision amp-bf16 \
--optimizer adamw --fused --attention sdpa --grad-accumulation 4 --gpus 4 --zero 2
     best in: least made again, fewest passes
     sends gradient reduce-scatter 20.0 GiB · weight all-gather 5.00 GiB
  2  vramtop estimate toy-7b --gpu a100 --batch 2 --seq 2048 --precision amp-bf16 \
--optimizer adamw --fused --attention sdpa --checkpointing full --gpus 4 --tp 2 --pp 2 --sp \
--micro-batches 32
     best in: least sent, least memory
     sends pipeline point to point 1.00 GiB

Changed: LoRA of rank 16: only adapters
    PROCESS  OF GPU       BATCH  CHECKPOINT  SPREAD  SENT/STEP
3  30.0 GiB     38%  16 × 1 × 4  none        DDP 4    1.00 MiB
  3  vramtop estimate toy-7b --gpu a100 --batch 16 --seq 2048 --precision bf16 \
--optimizer adamw --fused --attention sdpa --lora 16 --gpus 4
     sends gradient all-reduce 1.00 MiB

BATCH micro-batch × micro-batches a step × data-parallel GPUs. AGAIN arithmetic that checkpointing
makes again, over a step without it. BUBBLE a pipeline's idle time over its busy time. SENT/STEP by
one GPU with ring collectives; of a pipeline's stages the fullest.
sources: a paper; another paper; torch
note: by closed form"""


def test_text() -> None:
    assert plan_text.render(PLAN, 100, "toy-7b --gpu a100") == EXPECTED


def test_nothing_fits() -> None:
    text = plan_text.render(
        replace(PLAN, configurations=(), nearest=PIPELINED, limit_bytes=39 * GIB),
        100,
        "toy-7b --gpu a100",
    )
    assert "Nothing fits. Least is 40.0 GiB, 1.00 GiB more than may be used: TP 2" in text
    assert "vramtop estimate toy-7b --gpu a100 --batch 2" in text


def test_nothing_fits_as_wanted() -> None:
    text = plan_text.render(
        replace(PLAN, configurations=(ADAPTERS,), nearest=PIPELINED, limit_bytes=39 * GIB), 100, "x"
    )
    assert "Nothing fits as wanted. Least is 40.0 GiB" in text
    assert text.index("Nothing fits as wanted") < text.index("Changed: LoRA")


def test_json() -> None:
    value = json.loads(plan_json.render(PLAN))
    assert value["schema"] == "vramtop.plan/1"
    assert value["device"] == {"name": "NVIDIA A100 80GB PCIe", "total_bytes": 80 * GIB}
    assert value["nearest"] is None
    first, _, last = value["configurations"]
    assert first["totals"] == {
        "peak_allocated_bytes": 60 * GIB - 2,
        "peak_reserved_bytes": 60 * GIB - 1,
        "process_bytes": 60 * GIB,
    }
    assert first["sent_bytes"] == 25 * GIB
    assert first["communication"][0]["source"] == "a paper"
    assert first["micro_batch"] * first["passes"] * first["data_parallel"] == 64
    assert last["departures"] == ["LoRA of rank 16: only adapters"]
    assert last["lora"]["rank"] == 16


def test_on_a_terminal_of_80_columns_only_commands_are_wider() -> None:
    lines = plan_text.render(PLAN, 80, "toy-7b --gpu a100").splitlines()
    assert all(len(line) <= 80 for line in lines if "vramtop estimate" not in line)
    assert "     best in: least made again, fewest passes" in lines


def test_on_a_wide_terminal_the_table_says_in_what_each_is_best() -> None:
    head, first = plan_text.render(PLAN, 120, "toy-7b --gpu a100").splitlines()[4:6]
    assert head.endswith("SENT/STEP  BEST IN")
    assert first.endswith("25.0 GiB  least made again, fewest passes")
