"""Composed timelines against the real FSDP2 and DDP, allocation by allocation."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from vramtop.estimator.fsdp import GATHERING, REDUCING
from vramtop.estimator.sharding import shard
from vramtop.estimator.stacks import traced_as
from vramtop.estimator.timeline import BlockInfo, Mark, Timeline
from vramtop.estimator.workload import Model, Parallel, Workload

pytest.importorskip("torch.distributed.fsdp", exc_type=ImportError)
SCRIPT = Path(__file__).with_name("real_fsdp.py")
KIB = 1 << 10
LAYERS = 3
SIZES = {"embedding": (1024, None), "layers.0.linear": (1024, 0), "layers.1.linear": (1024, 1)}
SIZES |= {"layers.2.linear": (1024, 2), "head": (2048, None)}
"""KiB of each weight, in fp32, and its layer."""


ADAPTED: dict[str, tuple[int, int | None]] = {"embedding": (1024, None)}
for _layer in range(LAYERS):
    ADAPTED |= {
        f"layers.{_layer}.{name}": (size, _layer)
        for name, size in (("frozen", 1024), ("linear", 512), ("back", 512))
    }
ADAPTED["head"] = (2048, None)


def one_gpu(
    micro_batches: int,
    cast: bool,
    divisor: int = 1,
    weights: Mapping[str, tuple[int, int | None]] = SIZES,
) -> Timeline:
    """What one GPU does with the script's model; activations are below the script's threshold.

    ``divisor``: 2 where the model itself is bf16.
    """
    blocks: list[BlockInfo] = []
    events: list[int] = []
    marks = [Mark(0, "load", 0)]

    def new(size_kib: int, category: str, module: str, layer: int | None) -> int:
        blocks.append(BlockInfo(size_kib * KIB // divisor, 0, category, module, layer))
        events.append(len(blocks))
        return len(blocks)

    gradients = []
    for name, (size, layer) in weights.items():
        new(size, "parameter", f"{name}.weight", layer)
    for micro_batch in range(micro_batches):
        marks.append(Mark(len(events), "forward", 1))
        for name, (_, layer) in weights.items():
            blocks.append(BlockInfo(64, 0, "activation", name, layer))
            events.append(len(blocks))
        marks.append(Mark(len(events), "backward", 1))
        for name, (size, layer) in reversed(weights.items()):
            if name.endswith("frozen"):
                continue
            if micro_batch == 0:
                gradients.append(new(size, "gradient", f"{name}.weight", layer))
            else:
                events.append(-new(size // 2 if cast else size, "autograd_detail", name, layer))
    marks.append(Mark(len(events), "zero_grad", 1))
    events += [-number for number in gradients]
    marks.append(Mark(len(events), "end", 1))
    return Timeline(tuple(blocks), tuple(events), tuple(marks))


def told(timeline: Timeline) -> dict[str, list[int]]:
    """As the script tells it."""
    story: dict[str, list[int]] = {}
    counts = {"forward": 0, "backward": 0}
    for mark, after in zip(timeline.marks, timeline.marks[1:], strict=False):
        if mark.phase == "load":
            continue
        name = mark.phase
        if name in counts:
            name = f"{name} {counts[name]}"
            counts[mark.phase] += 1
        sizes = [
            timeline.blocks[abs(event) - 1].base_bytes // KIB * (1 if event > 0 else -1)
            for event in timeline.events[mark.event : after.event]
        ]
        story[name] = [size for size in sizes if size]
    return story


def without_scratch(sizes: list[int]) -> list[int]:
    """Without what the CPU's kernels take for themselves.

    Matrix products in bf16 take odd sizes, and the copy into the buffer of gradients a temporary
    that goes right after it has come.
    """
    kept: list[int] = []
    for size in sizes:
        if size % 128:
            continue
        if kept and size == -kept[-1] and size < 0:
            kept.pop()
        else:
            kept.append(size)
    return kept


def in_runs(sizes: list[int]) -> list[int]:
    """What goes between two allocations in order of size."""
    runs: list[list[int]] = [[]]
    for size in sizes:
        if size > 0:
            runs.append([])
        runs[-1].append(size)
    return [size for run in runs for size in sorted(run, reverse=True)]


CASES = [(3, "fp32", 2), (2, "fp32", 1), (3, "bf16", 1), (2, "bf16", 2)]
FLAT_CASES = [("flat", "sync", 2), ("flat", "no_sync", 2), ("flat-frozen", "sync", 1)]


@pytest.fixture(scope="module")
def real() -> list[dict[str, list[int]]]:
    arguments = [f"{stage}:{precision}:{count}" for stage, precision, count in CASES + FLAT_CASES]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[str(case) for case in CASES])
def test_every_large_allocation_is_that_of_fsdp2(
    real: list[dict[str, list[int]]], number: int
) -> None:
    stage, precision, micro_batches = CASES[number]
    asked = Workload(
        Model("small"),
        precision="amp-bf16" if precision == "bf16" else "fp32",
        parallel=Parallel(gpus=4, zero=stage),
    )
    ours = told(shard(one_gpu(micro_batches, precision == "bf16"), asked))
    theirs = real[number]
    if precision == "bf16":
        ours, theirs = (
            {name: without_scratch(sizes) for name, sizes in story.items()}
            for story in (ours, theirs)
        )
    assert sum(map(sum, theirs.values())) == 0
    assert ours == theirs


@pytest.mark.parametrize("number", [2, 3])
def test_what_is_computed_in_bf16_is_sharded_in_fp32(
    real: list[dict[str, list[int]]], number: int
) -> None:
    """torchtitan: no autocast, so the timeline is one of a model in bf16."""
    stage, _, micro_batches = CASES[number]
    asked = Workload(
        Model("small"),
        precision="amp-bf16",
        stack="torchtitan",
        parallel=Parallel(gpus=4, zero=stage),
    )
    assert traced_as(asked).precision == "bf16"
    ours = told(shard(one_gpu(micro_batches, False, divisor=2), asked))
    assert {name: without_scratch(sizes) for name, sizes in ours.items()} == {
        name: without_scratch(sizes) for name, sizes in real[number].items()
    }


@pytest.mark.parametrize("number", range(3), ids=[str(case) for case in FLAT_CASES])
def test_every_large_allocation_is_that_of_fsdp1(
    real: list[dict[str, list[int]]], number: int
) -> None:
    kind, sync, micro_batches = FLAT_CASES[number]
    asked = Workload(
        Model("small"),
        precision="fp32",
        stack="litgpt" if sync == "no_sync" else "fsdp-qlora",
        grad_accumulation=micro_batches,
        parallel=Parallel(gpus=4, zero=3),
    )
    weights = ADAPTED if kind == "flat-frozen" else SIZES
    made = shard(one_gpu(micro_batches, False, weights=weights), asked)
    ours, theirs = told(made), dict(real[len(CASES) + number])
    load = [
        (made.blocks[abs(event) - 1].base_bytes // KIB) * (1 if event > 0 else -1)
        for event in made.events[: made.marks[1].event]
        # The script's weights are there before.
        if made.blocks[abs(event) - 1].operation != "fsdp::load"
    ]
    assert load == theirs.pop("load")
    if kind == "flat-frozen":  # with use_orig_params gradients go when the next forward begins
        del ours["zero_grad"], theirs["zero_grad"]
    assert {name: in_runs(sizes) for name, sizes in ours.items()} == {
        name: in_runs(sizes) for name, sizes in theirs.items()
    }


def test_gathered_memory_of_fsdp1_is_awaited_and_on_its_stream() -> None:
    asked = Workload(
        Model("small"),
        precision="fp32",
        stack="fsdp-qlora",
        parallel=Parallel(gpus=4, zero=3),
    )
    made = shard(one_gpu(1, False), asked)
    gathered = [block for block in made.blocks if block.operation == "fsdp::all_gather"]
    assert {(block.stream, block.awaited) for block in gathered} == {(GATHERING, True)}
    assert not any(block.awaited for block in made.blocks if block not in gathered)


def test_gathered_and_reduced_memory_is_on_streams_of_its_own() -> None:
    """torch/distributed/fsdp/_fully_shard/_fsdp_collectives.py: what stands under which stream."""
    asked = Workload(Model("small"), precision="fp32", parallel=Parallel(gpus=4, zero=3))
    made = shard(one_gpu(1, False), asked)
    streams: dict[str, set[int]] = {}
    for block in made.blocks:
        streams.setdefault(block.operation, set()).add(block.stream)
    assert streams.pop("fsdp::all_gather") == {GATHERING}
    assert streams.pop("fsdp::shard") == {REDUCING}
    assert streams == {"": {0}, "fsdp::unshard": {0}, "fsdp::reduce_scatter": {0}}


def test_ddp_buckets_are_those_of_ddp(real: list[dict[str, list[int]]]) -> None:
    """Five weights of 16 MiB: one bucket of 80; then one of 16, over the first's limit, and two."""
    blocks, events, marks = [], [], [Mark(0, "load", 0)]
    for step in (1, 2):
        marks += [Mark(len(events), "forward", step), Mark(len(events), "backward", step)]
        for number in range(5):
            blocks.append(BlockInfo(16 << 20, 0, "gradient", f"{number}.weight"))
            events.append(len(blocks))
        marks.append(Mark(len(events), "zero_grad", step))
        events += [-len(blocks) + number for number in (4, 3, 2, 1, 0)]
    marks.append(Mark(len(events), "end", 2))
    timeline = Timeline(tuple(blocks), tuple(events), tuple(marks))
    done = shard(timeline, Workload(Model("small"), parallel=Parallel(gpus=4)))
    sizes = [
        [
            done.blocks[abs(event) - 1].base_bytes // KIB * (1 if event > 0 else -1)
            for event in done.events[mark.event : after.event]
        ]
        for mark, after in zip(done.marks, done.marks[1:], strict=False)
    ]
    # Before, the weights' broadcast takes as much for a moment.
    assert real[-1]["load"] == [80 * KIB, -80 * KIB, *sizes[0]] == [80 * KIB, -80 * KIB, 80 * KIB]
    assert sizes[1:] == [*real[-1].values()][1:]
