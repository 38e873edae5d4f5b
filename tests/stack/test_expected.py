"""Predicted beside actual on the CPU: real trainings under ``vramtop run``, rebuilt and traced."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.bench.predicted_vs_actual import CASES, case, pairs
from tests.stack.watched import watched
from vramtop.core.breakdowns import detail_of
from vramtop.predict.live import expect
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


OWN_MODULE = """
import itertools, time, torch
from torch import nn

model = nn.Sequential(nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 256), nn.GELU())
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
for step in itertools.count():
    x = torch.randn((256, 512, 1024)[step % 3], 256)
    model(x).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    time.sleep(0.01)
"""


def test_a_module_of_ones_own_is_fitted_from_what_was_seen(tmp_path, tmp_path_factory):
    script = tmp_path / "own.py"
    script.write_text(OWN_MODULE)
    fleet, process = watched([str(script)], tmp_path_factory.mktemp("v"), batches=3)
    seen = fleet.observed[process.key, "cpu"]
    third = next(peak for peak in seen if peak.batch == 1024)
    others = [peak for peak in seen if peak.batch != 1024]
    expected = expect(process, "cpu", fleet.snapshot.devices, others).at(1024)
    assert expected.source == "fitted"
    assert "Sequential has no configuration of transformers" in expected.notes
    after_step = next(p for p in detail_of(process, "cpu").phases if p.name == "step").after
    for category in COUNTED:
        assert expected.peak[category] == after_step.bytes_of(category), category
    assert third.peak_bytes == pytest.approx(expected.peak_bytes, rel=0.05)
    assert abs(third.peak_bytes - expected.peak_bytes) <= expected.uncertainty * expected.peak_bytes
