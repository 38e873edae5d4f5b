"""The largest batch that fits, by numbers counted by hand; a prediction that is a straight line."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from vramtop.core.failure import Failure
from vramtop.core.model import ModelInfo, Probe, Process
from vramtop.core.observed import ObservedPeak
from vramtop.core.oom_figures import Figures
from vramtop.core.postmortem import FittingBatch
from vramtop.errors import UsageError
from vramtop.estimator.expected import Expected
from vramtop.predict.postmortem import judged, telling, written

GIB = 1 << 30


class Line:
    """4 GiB that last, 2 GiB a sample, 1 GiB outside the allocator."""

    def process_bytes(self, batch):
        return (5 + 2 * batch) * GIB


@dataclass
class Expecting:
    uncertainty: float = 0.0
    source: str = "trace"
    workload: None = None
    predictor: Line = Line()  # noqa: RUF009

    def at(self, batch):
        return Expected(
            source=self.source,
            told="GPT2 rebuilt",
            batch=batch,
            sequence=128,
            phases=(),
            peak={"parameter": 4 * GIB, "activation": 2 * batch * GIB},
            peak_bytes=(4 + 2 * batch) * GIB,
            peak_phase="backward",
            peak_module=None,
            reserved_bytes=None,
            uncertainty=self.uncertainty,
        )


def trained(batch=8, phase="forward", module_source="exact"):
    model = ModelInfo("GPT2", 1, 1, {}, batch_shapes=((batch, 128),), arguments=("input_ids",))
    failure = Failure("oom", 1.0, phase=phase, module_source=module_source)
    return Process(1, 1.0, probe=Probe("gone", models=(model,), failure=failure))


def held(in_use, free, asked=GIB, idle=0, device="cuda:0"):
    return Figures(device, asked, free, idle, None, in_use)


def largest(at, batch=8, **more):
    return judged(Expecting(**more), trained(batch), at).batch


def test_the_largest_below_the_capacity():
    # 8 needs 21 GiB of 20; 7 needs 19.
    assert largest(held(20 * GIB, 0)) == FittingBatch(7, 8, "trace")
    assert largest(held(18 * GIB, GIB)) == FittingBatch(7, 8, "trace")
    assert largest(held(18 * GIB, GIB - 1)) == FittingBatch(6, 8, "trace")


def test_only_what_fits_with_the_doubt_added():
    # 20 GiB / 1.1 = 18.18: 7 needs 19, 6 needs 17.
    assert largest(held(20 * GIB, 0), uncertainty=0.1).batch == 6


def test_a_prediction_that_says_it_should_have_fitted_names_no_batch():
    assert largest(held(24 * GIB, 0)) is None


def test_within_the_doubt_the_failure_tells_more_than_the_prediction():
    # 8 is predicted to need 21 of 22 GiB and failed: 22 / 1.1 = 20, and 7 needs 19.
    assert largest(held(22 * GIB, 0), uncertainty=0.1).batch == 7


def test_a_process_that_held_more_than_was_predicted_has_another_reason():
    """It had 40 GiB in use where 21 are predicted: a leak, not the batch."""
    made = judged(Expecting(0.05), trained(), held(40 * GIB, 0))
    assert made.exceeds == "held"
    assert made.batch is None
    assert made.text == (
        "20.0 GiB of tensors at the peak of batch 8 × 128 tokens (GPT2 rebuilt; ±5%). It held more "
        "than that: something kept from step to step or made beside the training"
    )
    after_forward = judged(Expecting(0.05), trained(phase="backward"), held(40 * GIB, 0))
    assert "a larger batch or longer samples than those sampled last" in after_forward.text


def test_a_process_that_asked_for_more_than_was_predicted_did_not_hold_it():
    """It had 20 GiB of the 21 that are predicted, and asked for 30."""
    made = judged(Expecting(0.05), trained(), held(20 * GIB, 0, asked=30 * GIB))
    assert (made.exceeds, made.batch) == ("asked", None)
    assert made.text.endswith(
        ". The 30.0 GiB that it asked for are beyond that: something made beside the training"
    )


def test_what_was_cached_in_pieces_is_no_need():
    """26 GiB were in use, of which 6 only cached: 20 + 1 were needed, as predicted."""
    made = judged(Expecting(), trained(), held(26 * GIB, 0, idle=6 * GIB))
    assert not made.exceeds
    assert made.batch is None  # 26 GiB would have sufficed for 8: its pieces are the reason


def test_where_not_even_one_sample_fits_or_batch_one_failed():
    assert largest(held(6 * GIB, 0)) is None
    assert largest(held(6 * GIB, 0), batch=1) is None


def test_on_the_host_it_is_never_sure():
    # 20 GiB less 1 outside: of 19 tensors may have 0.65, which is 12.35; 4 need 12.
    assert largest(held(20 * GIB, 0, device="cpu")) == FittingBatch(4, 8, "trace", is_sure=False)


@pytest.mark.parametrize("missing", ["in_use", "free", "asked"])
def test_without_the_figures_nothing_is_said(missing):
    known = {"in_use": 20 * GIB, "free": 0, "asked": GIB, missing: None}
    assert largest(held(**known)) is None


def test_a_prediction_too_doubtful_is_none():
    with pytest.raises(UsageError, match=r"a guess for batch 8 may be 70% off \(GPT2 rebuilt\)"):
        judged(Expecting(0.7), trained(), held(20 * GIB, 0))


def test_a_batch_that_is_not_known():
    model = ModelInfo("GPT2", 1, 1, {})
    with pytest.raises(UsageError, match="not known"):
        judged(Expecting(), Process(1, 1.0, probe=Probe("gone", models=(model,))), held(1, 1))


def ran(batch, peak=19 * GIB, sequence=128):
    return ObservedPeak(batch, sequence, peak, 5)


def advised(*observed, at=None, **more):
    return judged(Expecting(**more), trained(), at or held(20 * GIB, 0), observed).batch


def test_no_smaller_batch_than_one_that_was_seen_to_run():
    # With this doubt 18.18 GiB: the prediction says 6.
    assert advised(ran(4), ran(5), uncertainty=0.1).source == "trace"
    assert advised(ran(4), ran(7), uncertainty=0.1) == FittingBatch(7, 8, "seen")
    on_the_host = held(20 * GIB, 0, device="cpu")
    assert advised(ran(7), at=on_the_host) == FittingBatch(7, 8, "seen", is_sure=False)


def test_what_ran_says_so_where_the_prediction_has_no_batch():
    assert advised(ran(2, peak=4 * GIB), at=held(6 * GIB, 0)) == FittingBatch(2, 8, "seen")


def test_what_ran_with_other_lengths_or_more_room_or_failed_is_no_floor():
    for other in (ran(7, sequence=64), ran(8), ran(9), ran(7, peak=20 * GIB)):
        assert advised(other, uncertainty=0.1).batch == 6, other


@pytest.mark.parametrize(
    ("place", "observed", "sampled", "sure"),
    [
        ({}, (ran(4),), False, True),
        ({"phase": "backward"}, (ran(8),), True, True),
        ({"phase": "backward"}, (ran(8), ran(4)), True, False),
        ({"phase": "backward"}, (ran(8), ran(8, sequence=64)), True, False),
        ({"module_source": "last_peak"}, (ran(8), ran(4)), True, False),  # in the loss, say
        ({"module_source": None}, (ran(8),), True, True),
    ],
)
def test_after_the_forward_the_batch_is_sure_only_where_none_but_it_was_seen(
    place, observed, sampled, sure
):
    made = judged(Expecting(), trained(**place), held(20 * GIB, 0), observed)
    assert made.batch == FittingBatch(7, 8, "trace", is_sure=sure, is_sampled=sampled)


def test_of_a_line_only_what_lasts_and_the_total_are_known():
    whole = judged(Expecting(), trained(), held(20 * GIB, 0)).predicted
    assert whole == {"parameter": 4 * GIB, "activation": 16 * GIB, "total": 20 * GIB}
    made = judged(Expecting(source="fitted"), trained(), held(20 * GIB, 0))
    assert "batch 8 × 128 (" in made.text, "128 may be the width of an image"
    line = made.predicted
    assert line == {"parameter": 4 * GIB, "total": 20 * GIB}


@pytest.mark.parametrize(
    ("source", "known"),
    [("trace", {"parameter": 4, "gradient": 1, "activation": 7}), ("fitted", {"parameter": 4})],
)
def test_so_it_is_of_what_a_viewer_had_predicted(source, known):
    sizes = {"parameter": 4, "gradient": 1, "activation": 7, "cached": 9}
    categories = {name: {"predicted_bytes": size} for name, size in sizes.items()}
    peak = {"name": "peak", "total": {"predicted_bytes": 12}, "categories": categories}
    assert written({"source": source, "moments": [peak]}) == {**known, "total": 12}


@pytest.mark.parametrize("peak", [{}, {"total": {"predicted_bytes": None}, "categories": []}])
def test_a_viewer_that_had_predicted_nothing(peak):
    assert written({"moments": [{"name": "peak", **peak}]}) is None
    assert written(None) is None


def test_it_is_told_where_nothing_can_be_predicted_any_more():
    why = UsageError("several models")
    peak = {"name": "peak", "total": {"predicted_bytes": GIB}, "categories": {}}
    kept = {"source": "trace", "batch": 8, "moments": [peak]}
    said = "1.00 GiB of tensors at the peak of batch 8, predicted while it ran"
    assert telling(why, kept) == ({"total": GIB}, said, None)
    assert telling(why, {**kept, "batch": "8"})[1] == said.replace(" of batch 8", "")
    assert telling(why, None) == (None, "not known: several models", None)
