"""Predicted beside actual, on a training whose figures are written out by hand.

Oracle: the bytes below, and what each deviation's own story says must be named.
"""

from dataclasses import replace

import pytest

from vramtop.core.memory import TENSOR_CATEGORIES, Breakdown, Detail, Peak, Phase
from vramtop.core.model import (
    AllocatorStats,
    ModelInfo,
    OptimizerInfo,
    Probe,
    ProbeDevice,
    Process,
)
from vramtop.estimator.comparison import compare, verdict_text
from vramtop.estimator.expected import Expected, ExpectedPhase

MIB = 1 << 20
LOGITS = 16 * MIB


def sizes(parameter=100, gradient=0, optimizer_state=200, activation=0, unknown=0):
    """Bytes by category from MiB."""
    told = {
        "parameter": parameter,
        "gradient": gradient,
        "optimizer_state": optimizer_state,
        "activation": activation,
        "unknown": unknown,
    }
    return dict.fromkeys(TENSOR_CATEGORIES, 0) | {k: v * MIB for k, v in told.items()}


def breakdown(**mib):
    return Breakdown(**{f"{k}_bytes": v for k, v in sizes(**mib).items()})


PREDICTED = {
    "forward": sizes(activation=150),
    "backward": sizes(gradient=100),
    "step": sizes(gradient=100),
    "zero_grad": sizes(),
}
EXPECTED = Expected(
    source="trace",
    told="GPT2LMHeadModel rebuilt from its configuration, traced",
    batch=2,
    sequence=128,
    phases=tuple(
        ExpectedPhase(name, after, sum(after.values())) for name, after in PREDICTED.items()
    ),
    peak=sizes(gradient=40, activation=110),
    peak_bytes=450 * MIB,
    peak_phase="backward",
    peak_module="lm_head",
    reserved_bytes=None,
    uncertainty=0.03,
    logits_bytes=LOGITS,
)
HEALTHY = {
    "forward": {"activation": 151},
    "backward": {"gradient": 100},
    "step": {"gradient": 100},
    "zero_grad": {},
}


def detail(phases=HEALTHY, peak=None):
    told = [(name, breakdown(**mib)) for name, mib in phases.items()]
    at_peak = breakdown(**(peak or {"activation": 152}))
    return Detail(
        at=0.0,
        step=7,
        phases=tuple(
            Phase(name, 0, after.tensor_bytes, after.tensor_bytes, after=after)
            for name, after in told
        ),
        peak=Peak("forward", "lm_head", at_peak.tensor_bytes, at_peak),
    )


def process(sampled=None, model=None, optimizer=None, allocator=None, boundary="step", **more):
    device = "cuda:0" if allocator else "cpu"
    part = ProbeDevice(
        device,
        None,
        allocator,
        breakdown(gradient=100),
        detail=sampled or detail(),
        boundary=boundary,
    )
    told = ModelInfo("GPT2LMHeadModel", 10, 10, {"float32": 10}, **(model or {}))
    adamw = OptimizerInfo("AdamW", 7, {}, state_by_dtype={"float32": 20})
    probe = Probe("streaming", models=(told,), optimizers=(optimizer or adamw,), devices=(part,))
    return replace(Process(1, 0.0, probe=probe), **more)


def compared(*arguments, expected=EXPECTED, **more):
    told = process(*arguments, **more)
    return compare(told, told.probe.devices[0].device, expected)


def kinds(comparison):
    return [reason.kind for reason in comparison.reasons]


def phases(**changed):
    """The healthy step with other MiB at the ends of some phases."""
    return {name: mib | changed.get(name, {}) for name, mib in HEALTHY.items()}


def test_now_the_peak_and_every_phase_have_their_pairs():
    comparison = compared()
    assert [moment.name for moment in comparison.moments] == [
        *("now", "peak", "forward", "backward", "step", "zero_grad")
    ]
    now, peak, forward = comparison.moments[:3]
    assert now.phase == "step"
    assert [(p.category, p.predicted_bytes, p.actual_bytes) for p in now.pairs] == [
        ("parameter", 100 * MIB, 100 * MIB),
        ("gradient", 100 * MIB, 100 * MIB),
        ("optimizer_state", 200 * MIB, 200 * MIB),
    ]
    activation = forward.pair("activation")
    assert (activation.delta_bytes, activation.delta_share) == (MIB, pytest.approx(1 / 150))
    assert (forward.total.predicted_bytes, forward.total.actual_bytes) == (450 * MIB, 451 * MIB)
    assert (peak.total.predicted_bytes, peak.total.actual_bytes) == (450 * MIB, 452 * MIB)
    assert peak.phase == "forward"


def test_within_the_uncertainty_nothing_differs_and_no_reason_is_given():
    comparison = compared()
    assert not comparison.differs
    assert comparison.reasons == ()
    assert verdict_text(comparison, "cpu") == "as predicted (within 3 %)"


def test_a_peak_elsewhere_in_backward_is_no_difference_between_categories():
    # 450 MiB at another moment: activations for gradients.
    comparison = compared(detail(peak={"gradient": 80, "activation": 70}))
    assert not comparison.differs


def test_between_forward_and_backward_lies_the_loss_which_is_forwards():
    told = {
        "forward": {"activation": 100},
        "other": {"activation": 151},
        "backward": {"gradient": 100},
        "step": {"gradient": 100},
    }
    comparison = compared(detail(told))
    assert comparison.moment("forward").pair("activation").actual_bytes == 151 * MIB
    assert not comparison.differs


def test_a_moment_that_was_not_predicted_has_no_predicted_side():
    now = compared(boundary="evaluation").moment("now")
    assert now.total.predicted_bytes is None
    assert {pair.predicted_bytes for pair in now.pairs} == {None}
    assert {pair.delta_bytes for pair in now.pairs} == {None}


def test_without_a_sampled_step_there_is_only_now():
    told = process()
    (part,) = told.probe.devices
    bare = replace(told.probe, devices=(replace(part, detail=None),))
    comparison = compare(replace(told, probe=bare), "cpu", EXPECTED)
    assert [moment.name for moment in comparison.moments] == ["now"]
    assert not comparison.differs
    assert "no step was sampled in detail" in verdict_text(comparison, "cpu")


def test_a_prediction_that_may_be_anything_confirms_nothing():
    comparison = compared(expected=replace(EXPECTED, uncertainty=3.0))
    assert not comparison.differs
    assert not comparison.is_judged
    assert verdict_text(comparison, "cpu") == "too uncertain to hold anything against it (±300 %)"


def test_of_a_fitted_peak_all_that_does_not_last_is_one_sum():
    fitted = replace(EXPECTED, source="fitted", phases=(), peak=sizes(gradient=100, activation=50))
    comparison = compared(detail(peak={"activation": 140, "unknown": 10}), expected=fitted)
    assert [moment.name for moment in comparison.moments] == ["now", "peak"]
    peak = comparison.moment("peak")
    assert [(p.category, p.predicted_bytes, p.actual_bytes) for p in peak.pairs] == [
        ("parameter", 100 * MIB, 100 * MIB),
        ("optimizer_state", 200 * MIB, 200 * MIB),
        ("activation", 150 * MIB, 150 * MIB),
    ]
    assert not comparison.differs, "the peak is 450 MiB either way"
    assert not comparison.is_judged, "a line through what was seen is no judge of it"
    assert "tells of other batch sizes" in verdict_text(comparison, "cpu")


def test_of_a_device_of_which_nothing_is_told_there_is_no_comparison():
    assert compare(process(), "cuda:3", EXPECTED) is None


# Reasons


def test_fp32_state_of_16_bit_parameters():
    state = {"optimizer_state": 400}
    told = detail(
        phases(forward=state, backward=state, step=state, zero_grad=state),
        {"activation": 152, **state},
    )
    comparison = compared(told)
    assert kinds(comparison) == ["other"], "parameters are fp32: nothing speaks for it"
    assert comparison.reasons[0].text == "optimizer state +200 MiB: no known reason"
    told_of = process(told)
    model = replace(told_of.probe.models[0], parameters_by_dtype={"bfloat16": 9, "float32": 1})
    told_of = replace(told_of, probe=replace(told_of.probe, models=(model,)))
    (reason,) = compare(told_of, "cpu", EXPECTED).reasons
    assert (reason.kind, reason.bytes) == ("optimizer-fp32", 200 * MIB)
    assert reason.text.startswith("optimizer state is fp32 although parameters are bf16")


def test_outputs_that_live_on_are_told_by_the_logits_size():
    left = {"activation": 16}
    told = detail(
        phases(forward={"activation": 167}, backward=left, step=left, zero_grad=left),
        {"activation": 168},
    )
    comparison = compared(told)
    assert kinds(comparison) == ["outputs-kept"]
    assert comparison.reasons[0].text.startswith(
        "logits kept alive: `outputs` still referenced (16.0 MiB)"
    )
    # As much again is no output: said as what it is, without a name for it.
    left = {"activation": 60}
    comparison = compared(detail(phases(backward=left, step=left, zero_grad=left)))
    assert kinds(comparison) == ["other"]
    assert "outlive backward (60.0 MiB)" in comparison.reasons[0].text


def test_eager_attention_is_named_only_where_activations_are_more():
    more = detail(phases(forward={"activation": 270}), {"activation": 271})
    (reason,) = compared(more, model={"attention": "eager"}).reasons
    assert reason.kind == "eager-attention"
    assert reason.text.startswith("activations 1.8×: attention is eager (+120 MiB)")
    (reason,) = compared(more, model={"attention": "sdpa"}).reasons
    assert reason.text == "activations +120 MiB: no known reason"
    assert compared(model={"attention": "eager"}).reasons == ()


def test_checkpointing_that_cannot_work_in_eval_mode():
    more = detail(phases(forward={"activation": 270}), {"activation": 271})
    (reason,) = compared(more, model={"checkpointing": True, "training": False}).reasons
    assert "call model.train()" in reason.text
    (reason,) = compared(more, model={"checkpointing": True, "training": True}).reasons
    assert "no known reason" in reason.text


def test_gradients_that_zero_grad_does_not_release():
    kept = {"gradient": 100}
    comparison = compared(
        detail(phases(forward=kept, zero_grad=kept), {"activation": 152, "gradient": 100})
    )
    assert kinds(comparison) == ["gradients-kept"]
    assert "zero_grad(set_to_none=False)" in comparison.reasons[0].text
    assert comparison.reasons[0].bytes == 100 * MIB


def test_gradients_that_no_zero_grad_was_seen_for():
    told = phases(forward={"gradient": 100})
    del told["zero_grad"]
    comparison = compared(detail(told, {"activation": 152, "gradient": 100}))
    assert kinds(comparison) == ["other"]
    assert "no zero_grad was seen" in comparison.reasons[0].text


def test_two_deviations_have_a_reason_each_and_the_larger_comes_first():
    told = phases(forward={"gradient": 100, "activation": 200}, zero_grad={"gradient": 100})
    comparison = compared(
        detail(told, {"activation": 200, "gradient": 100}), model={"attention": "eager"}
    )
    assert kinds(comparison) == ["gradients-kept", "eager-attention"]


def test_less_than_predicted_is_said_and_not_explained():
    comparison = compared(detail(phases(forward={"activation": 100}), {"activation": 100}))
    assert [reason.text for reason in comparison.reasons] == [
        "activations -50.0 MiB: no known reason"
    ]
    assert verdict_text(comparison, "cpu") == (
        "more than 3 % off: peak -50.0 MiB (-11 %), activations -50.0 MiB (-33 %) after forward"
    )


def test_a_peak_that_no_phase_explains():
    comparison = compared(detail(peak={"activation": 300}))
    assert [reason.text for reason in comparison.reasons] == ["peak +150 MiB: no known reason"]


# The caching allocator


def stats(reserved, peak=452, allocated=400):
    return AllocatorStats(
        allocated_bytes=allocated * MIB,
        reserved_bytes=reserved * MIB,
        active_bytes=allocated * MIB,
        requested_bytes=None,
        inactive_split_bytes=None,
        peak_allocated_bytes=peak * MIB,
        peak_reserved_bytes=reserved * MIB,
        segments=9,
        alloc_retries=0,
        ooms=0,
    )


ON_CUDA = replace(EXPECTED, reserved_bytes=470 * MIB)


def test_cached_is_predicted_and_actual_reserved_beyond_allocated():
    comparison = compared(allocator=stats(480), expected=ON_CUDA)
    assert not comparison.differs
    cached = comparison.moment("now").pair("cached")
    assert (cached.predicted_bytes, cached.actual_bytes) == (70 * MIB, 80 * MIB)
    cached = comparison.moment("peak").pair("cached")
    assert (cached.predicted_bytes, cached.actual_bytes) == (20 * MIB, 28 * MIB)


def test_reserved_beyond_all_that_was_ever_allocated_is_fragmentation():
    comparison = compared(allocator=stats(600), expected=ON_CUDA)
    (reason,) = comparison.reasons
    assert (reason.kind, reason.category) == ("fragmentation", "cached")
    assert reason.text.startswith("reserved 33 % over allocated: fragmentation (+128 MiB)")


def test_what_was_reserved_and_is_less_used_is_no_difference_of_its_own():
    more = detail(phases(forward={"activation": 300}), {"activation": 300})
    comparison = compared(more, allocator=stats(630, peak=600), expected=ON_CUDA)
    assert [pair.category for pair in comparison.parted] == ["total", "activation"]


def test_reserved_for_an_earlier_moment_is_not_fragmentation():
    comparison = compared(allocator=stats(605, peak=590), expected=ON_CUDA)
    (reason,) = comparison.reasons
    assert reason.kind == "other"
    assert reason.text.startswith("an earlier moment held 590 MiB")
