"""Which method answers for a live process, and when it has to be asked again."""

from dataclasses import replace

import pytest

from tests.estimator.live.builders import A100, HOST, MODEL, detail, process
from vramtop import predict
from vramtop.core.fleet import ObservedPeak
from vramtop.errors import UsageError
from vramtop.predict.live import expect, signature

SEEN = (ObservedPeak(4, 32, 20_000, 5),)


@pytest.fixture
def no_torch(monkeypatch):
    monkeypatch.setattr(predict, "can_trace", lambda: False)


def test_what_is_no_model_of_transformers_is_fitted():
    own = process(class_name="MyNet", hf_config=None)
    expected = expect(own, "cpu", (HOST,), SEEN).at(4)
    assert expected.source == "fitted"
    assert expected.peak_bytes == 20_000
    assert "MyNet has no configuration of transformers" in expected.notes


def test_until_a_step_is_sampled_it_says_what_it_waits_for():
    own = process(class_name="MyNet", hf_config=None)
    with pytest.raises(UsageError, match=r"MyNet has no .*; the prediction waits for a step"):
        expect(own, "cpu", (HOST,))
    with pytest.raises(UsageError, match="no model was seen yet"):
        expect(process(model=None), "cpu", (HOST,), SEEN)


def test_without_torch_a_gpu_is_predicted_by_formula(no_torch):
    whole = {"n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 2, "vocab_size": 100}
    count = 100 * 64 + 64 * 64 + 2 * (12 * 64 * 64 + 13 * 64) + 2 * 64
    elements = {"parameters": count, "trainable_parameters": count}
    by_dtype = {"parameters_by_dtype": {"float32": count}, "trainable_by_dtype": {"float32": count}}
    config = {"model_type": "gpt2", **whole}
    told = process(device="cuda:0", hf_config=config, **elements, **by_dtype)
    part = told.probe.devices[0]
    breakdown = replace(part.breakdown, parameter_bytes=4 * count)
    told = replace(told, probe=replace(told.probe, devices=(replace(part, breakdown=breakdown),)))
    made = expect(told, "cuda:0", (A100,))
    expected = made.at(4)
    assert expected.source == "closed-form"
    assert expected.peak["parameter"] == pytest.approx(4 * count, rel=0.01)
    assert expected.logits_bytes == 4 * 32 * 100 * 4
    assert [phase.name for phase in expected.phases] == ["forward", "backward", "step", "zero_grad"]
    # What the process really has outside its allocator, a GiB, stands for the context.
    assert made.predictor.at(4).components["context"] == 1 << 30


def test_without_torch_a_cpu_is_fitted(no_torch):
    expected = expect(process(), "cpu", (HOST,), SEEN).at(4)
    assert expected.source == "fitted"
    assert any("torch and transformers are not installed" in note for note in expected.notes)


def test_the_signature_is_that_of_the_work():
    told = signature(process(), "cpu", SEEN)
    assert signature(process(), "cpu", SEEN) == told
    same = process(of_detail=detail("forward", "backward", "step"))
    assert signature(same, "cpu", SEEN) == told
    batch = replace(MODEL, batch_shapes=((7, 32), (7, 32)))
    assert signature(process(model=batch), "cpu", SEEN) == told
    for changed in (
        {"batch_shapes": ((1, 32), (1, 32))},
        {"batch_shapes": ((4, 64), (4, 64))},
        {"autocast": "bfloat16"},
        {"checkpointing": True},
        {"training": False},
    ):
        assert signature(process(**changed), "cpu", SEEN) != told, changed


def test_the_signature_of_what_is_fitted_changes_with_what_was_seen():
    own = process(class_name="MyNet", hf_config=None)
    assert signature(own, "cpu", SEEN) != signature(own, "cpu")
    more = (*SEEN, ObservedPeak(8, 32, 30_000, 9))
    assert signature(own, "cpu", SEEN) != signature(own, "cpu", more)
