"""Each likely reason provoked in a real process, and named; a healthy process names none.

Oracle: the script that trains, which does the one thing that the reason says.
"""

from pathlib import Path

import pytest

from tests.stack.watched import watched

pytest.importorskip("torch")
pytest.importorskip("transformers")

from vramtop.predict.predictions import of_fleet

SCRIPT = Path(__file__).with_name("deviating_training.py")
LIMIT_S = 120.0
MIB = 1 << 20
PARAMETER_BYTES = 4 * (2000 * 128 + 256 * 128 + 2 * (12 * 128 * 128 + 13 * 128) + 2 * 128)
"""Of GPT-2 in fp32: embeddings, per layer 12 d² weights and 13 d biases and norms, the last norm;
the head is the embedding."""
LOGITS_BYTES = 4 * 2 * 256 * 2000


@pytest.fixture(scope="module")
def kept_traces(tmp_path_factory):
    """One trace serves every process with the same model and loop."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture
def comparison(kept_traces, tmp_path):
    """``comparison("eager")``: a process of that kind beside what it should hold."""

    def compare(which):
        fleet, process = watched([str(SCRIPT), which], tmp_path)
        made = of_fleet(fleet, lambda _: None, LIMIT_S)[process.key]
        assert made.problem == ""
        return made.comparison

    return compare


def named(comparison):
    return {reason.kind: reason for reason in comparison.reasons}


def test_a_healthy_process_names_none(comparison):
    found = comparison("healthy")
    assert found.expected.source == "trace"
    assert (found.differs, found.reasons) == (False, ())
    for name in ("forward", "backward", "step"):
        assert found.moment(name).pair("parameter").actual_bytes == PARAMETER_BYTES


def test_outputs_that_are_kept(comparison):
    found = comparison("outputs")
    assert found.differs
    (reason,) = found.reasons
    assert reason.kind == "outputs-kept"
    assert reason.bytes == pytest.approx(LOGITS_BYTES, rel=0.3)
    assert "`outputs` still referenced" in reason.text


def test_eager_attention(comparison):
    found = comparison("eager")
    assert found.differs
    (reason,) = found.reasons
    assert reason.kind == "eager-attention"
    assert "attention is eager" in reason.text
    # Softmax's result of every layer, batch × heads × tokens², in place of a few things that
    # only the fused kernel keeps.
    weights_bytes = 2 * 4 * 2 * 8 * 256 * 256
    assert 0.6 * weights_bytes < reason.bytes <= weights_bytes


def test_gradients_that_are_zeroed_in_place(comparison):
    found = comparison("gradients")
    assert found.differs
    reason = named(found)["gradients-kept"]
    assert reason.bytes == PARAMETER_BYTES
    assert "zero_grad(set_to_none=False)" in reason.text
    assert len(found.reasons) == 1


def test_fp32_state_of_bf16_parameters(comparison):
    found = comparison("fp32-state")
    assert found.differs
    (reason,) = found.reasons
    assert reason.kind == "optimizer-fp32"
    assert reason.bytes == PARAMETER_BYTES / 2, "4 bytes for each, where 2 were predicted"
    assert "although parameters are bf16" in reason.text
