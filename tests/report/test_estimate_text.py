"""An estimate as text and as JSON, from one written by hand."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import pytest

from vramtop.estimator.result import (
    COMPONENTS,
    Advice,
    Estimate,
    Footprint,
    PhaseUse,
    Uncertainty,
)
from vramtop.estimator.workload import Device, Lora, Model, Parallel, Workload, from_json
from vramtop.report import estimate_json, estimate_text
from vramtop.report.ansi import Look, Span, look_of, paint

GIB = 1 << 30
SIZES = {"parameter": 12, "gradient": 12, "optimizer_state": 25, "temporary": 13, "context": 1}
COMPONENT_BYTES = dict.fromkeys(COMPONENTS, 0) | {n: s * GIB for n, s in SIZES.items()}
FOOTPRINT = Footprint(
    method="trace",
    components=COMPONENT_BYTES,
    phases=(
        PhaseUse("load", 12 * GIB, 12 * GIB),
        PhaseUse("forward", 48 * GIB, 49 * GIB),
        PhaseUse("backward", 50 * GIB, 55 * GIB),
        PhaseUse("step", 50 * GIB, 62 * GIB),
        PhaseUse("zero_grad", 37 * GIB, 50 * GIB),
    ),
    peak_allocated_bytes=62 * GIB,
    peak_reserved_bytes=62 * GIB,
    process_bytes=63 * GIB,
    peak_phase="step",
    peak_module="model.layers.31.mlp.down_proj",
    peak_step=2,
    notes=("the head is tied",),
)
WORKLOAD = Workload(
    Model("meta/toy-7b", {"model_type": "llama"}),
    batch=4,
    sequence=2048,
    device=Device("NVIDIA A100-SXM4-80GB", 80 * GIB),
)
ESTIMATE = Estimate(
    workload=WORKLOAD,
    footprint=FOOTPRINT,
    device=WORKLOAD.device,
    verdict="fits",
    uncertainty=Uncertainty(60 * GIB, 66 * GIB),
    max_micro_batch=10,
    safe_micro_batch=8,
    curve=tuple((batch, (55 + 2 * batch) * GIB) for batch in range(1, 15)),
    advice=(Advice("the fused adamw", {"--fused": ""}, 13 * GIB, "nothing"),),
)
OOM = replace(
    ESTIMATE,
    footprint=replace(FOOTPRINT, process_bytes=90 * GIB),
    uncertainty=Uncertainty(85 * GIB, 95 * GIB),
    verdict="oom",
    max_micro_batch=0,
    safe_micro_batch=0,
    advice=(
        Advice("LoRA", {"--lora": "16"}, 60 * GIB, "only adapters are trained"),
        Advice("the fused adamw", {"--fused": ""}, 1 * GIB, "nothing"),
    ),
)


def plain(estimate=ESTIMATE, width=100, **rest):
    return estimate_text.render(estimate, Look(width), **rest)


def test_all_that_was_asked_is_there():
    text = plain(took_s=1.94)
    for words in (
        "meta/toy-7b",
        "training · batch 4 × 2,048 tokens · bf16 · adamw (foreach) · sdpa attention",
        "allocated   62.0 GiB",
        "reserved    62.0 GiB",
        "process     63.0 GiB",
        "60.0 GiB to 66.0 GiB",
        "FITS: NVIDIA A100-SXM4-80GB has 80.0 GiB, a process can use 79.3 GiB; 16.3 GiB left",
        "largest micro-batch 10 (surely 8); effective batch 64 = 8 × 8 (--batch 8",
        "--grad-accumulation 8)",
        "peak: 62.0 GiB allocated, in the optimizer's step, at model.layers.31",
        "training step but the first",
        "-13.0 GiB  the fused adamw (--fused): nothing",
        "note: the head is tied",
        "traced",
        "in 2s",
    ):
        assert words in " ".join(text.split("\n")) or words in text, words


def test_a_peak_of_inference_is_in_no_training_step():
    workload = replace(ESTIMATE.workload, mode="inference")
    (line,) = [
        row
        for row in plain(replace(ESTIMATE, workload=workload)).splitlines()
        if row.startswith("peak:")
    ]
    assert line.endswith("in the optimizer's step, at model.layers.31.mlp.down_proj")


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize("estimate", [ESTIMATE, OOM], ids=["fits", "oom"])
def test_no_line_is_wider_than_the_terminal(width, estimate):
    for colours in ("none", "true"):
        text = estimate_text.render(estimate, Look(width, colours))
        for line in re.sub(r"\x1b\[[\d;]*m", "", text).splitlines():
            assert len(line) <= width, line


def test_a_narrow_terminal_cuts_no_figure():
    assert "likely 60.0 GiB to 66.0 GiB" in plain(width=60)


def test_only_components_that_are_there_have_a_row():
    text = plain()
    assert "optimizer state" in text
    assert "CUDA context" in text
    assert "KV cache" not in text


def test_the_bar_is_the_device_and_shares_are_of_the_process():
    (bar,) = (line for line in plain().splitlines() if line.startswith("████"))
    # 12 of 80 GiB are parameters, in the first glyph, on 100 cells.
    assert len(bar) <= 100
    assert abs(bar.count("█") - 15) <= 1
    assert re.search(r"parameters\s+12\.0 GiB\s+19%", plain())


def test_what_does_not_fit_says_by_how_much_and_what_would():
    text = plain(OOM)
    assert "OUT OF MEMORY" in text
    assert "10.7 GiB too much" in text
    assert "no batch fits, not even 1" in text
    lora, fused = (line for line in text.splitlines() if "--lora" in line or "--fused" in line)
    assert lora.endswith("then it fits")
    assert "then it fits" not in fused
    assert "vramtop plan" in text
    assert "vramtop plan" not in plain()


def test_code_is_asked_for_again_as_there_is_no_plan_of_it():
    code = Workload(Model("mine.py:make", entry="mine.py:make"), batch=4, device=WORKLOAD.device)
    text = plain(replace(OOM, workload=code, advice=()))
    assert "--checkpointing full, --chunked-loss or --lora 16" in text
    assert "vramtop plan" not in text


def test_where_the_search_ends_it_says_so():
    assert "any micro-batch fits, to 65,536" in plain(replace(ESTIMATE, max_micro_batch=1 << 16))


def test_without_a_device_there_is_no_verdict():
    text = plain(replace(ESTIMATE, device=None, verdict=None, max_micro_batch=None))
    assert "FITS" not in text
    assert "largest" not in text
    assert "62.0 GiB" in text


def test_the_true_figure_beside_the_seeds():
    true = replace(FOOTPRINT, components=COMPONENT_BYTES | {"activation": 7 * GIB})
    text = plain(true=true)
    assert "TRUE" in text
    assert re.search(r"activations\s+0 B\s+0%\s+7\.00 GiB", text)


def test_many_gpus_adapters_and_accumulation_are_named():
    workload = replace(
        WORKLOAD,
        checkpointing="full",
        lora=Lora(16),
        grad_accumulation=8,
        stack="hf-trainer",
        parallel=Parallel(gpus=8, tensor=2, sequence=True, zero=1),
    )
    text = " ".join(plain(replace(ESTIMATE, workload=workload)).split())
    for words in (
        "full checkpointing",
        "LoRA 16",
        "8 accumulated",
        "hf-trainer",
        "8 GPUs: TP 2 SP ZeRO-1 4",
        "effective batch 64 = 8 × 2 × 4 GPUs",
        "adamw (fused)",
    ):
        assert words in text, words


def test_ascii_where_the_terminal_has_no_blocks():
    text = estimate_text.render(replace(ESTIMATE, curve=ESTIMATE.curve), Look(80, ascii=True))
    assert not set("█▓▒░▁▂▃▄▅▆▇▏▎▍▌▋▊▉─") & set(text)


def test_no_glyph_says_that_what_is_predicted_is_unknown():
    filled = replace(FOOTPRINT, components=dict.fromkeys(COMPONENTS, GIB), process_bytes=11 * GIB)
    for look in (Look(80, ascii=True), Look(80)):
        text = estimate_text.render(replace(ESTIMATE, footprint=filled), look)
        assert "KV cache" in text
        assert "?" not in text


@pytest.mark.parametrize(
    ("colours", "code"),
    [("true", "\x1b[38;2;86;180;233m"), ("cube", "\x1b[38;5;74m"), ("sixteen", "\x1b[96m")],
)
def test_the_bar_has_the_colours_of_the_live_screen(colours, code):
    # Okabe and Ito's sky blue for parameters, #56B4E9; by the eye 74 of xterm's cube.
    bar = paint([[Span("█", "parameter")]], Look(80, colours))
    assert bar == f"{code}█\x1b[0m"


@pytest.mark.parametrize("colours", ["true", "cube", "sixteen"])
@pytest.mark.parametrize("dark", [True, False])
def test_every_tone_has_a_colour(colours, dark):
    text = estimate_text.render(
        replace(ESTIMATE, footprint=replace(FOOTPRINT, components=dict.fromkeys(COMPONENTS, GIB))),
        Look(80, colours, dark),
    )
    stripped = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert "\x1b" not in stripped
    assert "KV cache" in stripped


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("environment", "colours", "dark"),
    [
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "true", True),
        ({"TERM": "xterm-256color", "COLORFGBG": "0;15"}, "cube", False),
        ({"TERM": "linux", "COLORFGBG": "15;0"}, "sixteen", True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "none", True),
        ({"TERM": "dumb"}, "none", True),
        ({}, "none", True),
    ],
)
def test_what_a_terminal_can_show(environment, colours, dark):
    look = look_of(Terminal(), 80, environment)
    assert (look.colours, look.dark, look.ascii) == (colours, dark, False)


def test_no_colour_in_pipes():
    assert look_of(io.StringIO(), 80, {"TERM": "xterm", "COLORTERM": "truecolor"}).mono


def test_json_has_the_schema_of_the_issue():
    value = json.loads(estimate_json.render(ESTIMATE))
    assert value["schema"] == "vramtop.estimate/1"
    assert value["method"] == "trace"
    assert value["totals"] == {
        "peak_allocated_bytes": 62 * GIB,
        "peak_reserved_bytes": 62 * GIB,
        "process_bytes": 63 * GIB,
    }
    assert set(value["components"]) >= {
        "parameter_bytes",
        "gradient_bytes",
        "optimizer_state_bytes",
        "activation_bytes",
        "temporary_bytes",
        "kv_cache_bytes",
        "workspace_bytes",
        "context_bytes",
    }
    assert sum(value["components"].values()) == 63 * GIB
    assert value["phases"][0] == {
        "name": "load",
        "after_bytes": 12 * GIB,
        "peak_bytes": 12 * GIB,
    }
    assert value["device"]["name"] == "NVIDIA A100-SXM4-80GB"
    assert value["device"]["total_bytes"] == 80 * GIB
    assert (value["verdict"], value["max_micro_batch"]) == ("fits", 10)
    assert value["uncertainty"] == {"low_bytes": 60 * GIB, "high_bytes": 66 * GIB}
    assert value["curve"][0] == [1, 57 * GIB]
    (advice,) = value["advice"]
    assert (advice["saves_bytes"], advice["cost"]) == (13 * GIB, "nothing")
    assert from_json(value["workload"]) == WORKLOAD
