"""Predicted beside actual on the CPU: real trainings under ``vramtop run``, rebuilt and traced."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.bench.predicted_vs_actual import CASES, case, pairs
from vramtop.trace.tracer import Tracer

COUNTED = ("parameter", "gradient", "optimizer_state")
HARD = [
    name + more for name in ("demo", "gpt2", "llama", "lora") for more in ("", ", checkpointing")
]


@pytest.fixture(scope="module")
def tracer():
    with Tracer() as running:
        yield running


@pytest.mark.parametrize("name", HARD)
def test_a_live_training_holds_what_is_predicted(name, tracer, tmp_path_factory):
    assert name in CASES
    if name.startswith("lora"):
        pytest.importorskip("peft")
    expected, detail = case(name, tmp_path_factory.mktemp("v"), tracer)
    assert expected.source == "trace"
    compared = pairs(expected, detail)
    assert {moment for moment, *_ in compared} >= {
        "after forward",
        "after backward",
        "after step",
        f"peak, {expected.peak_phase}",
    }
    for moment, category, ours, theirs in compared:
        if category in COUNTED:
            assert theirs == ours, (moment, category)
        elif category == "activation" and moment in ("after forward", f"peak, {detail.peak.phase}"):
            assert theirs == pytest.approx(ours, rel=0.02), moment
        elif category == "total":
            assert theirs == pytest.approx(ours, rel=0.03)
    assert detail.peak.phase == expected.peak_phase
    assert (detail.peak.module or None) == expected.peak_module
