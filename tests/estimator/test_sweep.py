"""The curve over the batch: columns, layers, the ceiling, the cliff, the fall and what was seen."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramtop.core.observed import ObservedPeak
from vramtop.estimator import closed, judge
from vramtop.estimator.catalog import find_gpu, find_model
from vramtop.estimator.fall import fall
from vramtop.estimator.result import COMPONENTS, Footprint, PhaseUse
from vramtop.estimator.sweep import LAYERS, Sweep, sweep
from vramtop.estimator.timeline import BlockInfo, Mark, Timeline
from vramtop.estimator.traced import TracedPredictor
from vramtop.estimator.workload import Device, Model, Workload

GIB, MIB = 1 << 30, 1 << 20
CARD = Device("NVIDIA A100-SXM4-80GB", 80 * GIB)
USABLE = (80 << 30) - (669 << 20)
TOY = Workload(Model("toy", {"model_type": "toy"}), device=CARD)


class Stairs:
    """10 GiB and 7 a batch, of which 1 is cached; above batch 5 the peak is in another phase."""

    def process_bytes(self, batch):
        return (10 + 7 * batch) * GIB

    def at(self, batch):
        components = dict.fromkeys(COMPONENTS, 0)
        components |= {"parameter": 9 * GIB, "context": GIB, "cached": batch * GIB}
        components["activation" if batch > 5 else "temporary"] = 6 * batch * GIB
        allocated = (9 + 6 * batch) * GIB
        phase = "backward" if batch > 5 else "step"
        return Footprint(
            "closed-form",
            components,
            (PhaseUse("forward", 9 * GIB, allocated), PhaseUse("backward", 0, allocated)),
            allocated,
            allocated + batch * GIB,
            self.process_bytes(batch),
            phase,
        )


def swept(predictor=None, workload=TOY):
    predictor = predictor or Stairs()
    return sweep(judge.judge(predictor, workload, lambda changed: predictor), predictor)


def test_the_cliff_is_behind_the_largest_batch_that_runs():
    one = swept()
    # 10 + 7 · 9 = 73 fit into 79.3, 80 do not.
    assert (one.largest, one.usable_bytes) == (9, USABLE)
    assert one.has_cliff
    assert [one.is_beyond(batch) for batch in (1, 9, 10)] == [False, False, True]
    assert one.last > 10


def test_layers_are_the_process_from_the_bottom_up():
    one = swept()
    assert LAYERS[:2] == ("context", "parameter")
    assert sorted(LAYERS) == sorted(COMPONENTS)
    assert sum(one.layers(3)) == 31 * GIB
    assert one.layers(3)[:2] == (GIB, 9 * GIB)


def test_verdicts_follow_the_uncertainty_of_the_method():
    one = swept()
    # ±15 %: 66 GiB may be 75.9 and fit surely, 73 may be 83.9, 94 is 79.9 at least.
    assert [one.verdict(one.at(batch)) for batch in (8, 9, 10, 12)] == [
        "fits",
        "tight",
        "tight",
        "oom",
    ]


def test_a_batch_that_runs_stays_under_the_ceiling_by_giving_its_cache_back():
    one = dataclasses.replace(swept(), largest=10)  # as a replay with little memory may say
    assert one.predictor.process_bytes(10) == 80 * GIB > USABLE
    shown = one.at(10)
    assert shown.process_bytes == USABLE
    assert shown.components["cached"] == 10 * GIB - (80 * GIB - USABLE)
    assert shown.peak_allocated_bytes == 69 * GIB
    assert one.at(11).process_bytes == 87 * GIB  # beyond the cliff it is what it would be


def test_without_a_device_there_is_neither_ceiling_nor_cliff():
    one = swept(workload=dataclasses.replace(TOY, device=None))
    assert (one.usable_bytes, one.largest, one.verdict(one.at(4))) == (None, None, None)
    assert not one.has_cliff
    assert not one.is_beyond(1000)
    assert fall(one) is None


def test_where_nothing_runs_the_cliff_comes_before_the_first_batch():
    one = swept(workload=dataclasses.replace(TOY, device=Device("small", 12 * GIB)))
    assert one.largest == 0
    assert one.is_beyond(1)
    over = fall(one)
    assert over is not None
    assert over.batch == 1


@given(st.integers(1, 300), st.integers(10, 200))
def test_columns_and_batches_find_each_other(last, width):
    one = Sweep(TOY, Stairs(), (), last, USABLE, 9, 9)
    shown = [one.batch_of(column, width) for column in range(width)]
    assert shown == sorted(shown)
    assert shown[0] == 1
    assert last <= width or shown[-1] <= last
    if last <= width:  # every batch has columns of its own, and the first of them is known
        assert sorted(set(shown)) == list(range(1, last + 1))
        for batch in range(1, last + 1):
            assert one.column_of(batch, width) == shown.index(batch)
            assert shown[one.middle_of(batch, width)] == batch
    else:
        assert all(0 <= one.column_of(batch, width) < width for batch in range(1, last + 1))


def test_observed_peaks_stand_with_the_cache_and_the_context_around_them():
    workload = dataclasses.replace(TOY, sequence=512)
    one = swept(workload=workload)
    seen = one.seen(
        (
            ObservedPeak(2, 512, 20 * GIB, 7),
            ObservedPeak(4, 256, 30 * GIB, 9),
            ObservedPeak(4000, 512, 30 * GIB, 9),
        )
    )
    # Of batch 2: 2 GiB cached and 1 of context, of batch 4: 4 and 1.
    assert [(one.batch, one.process_bytes, one.same_sequence) for one in seen] == [
        (2, 23 * GIB, True),
        (4, 35 * GIB, False),
    ]


# A parameter of 100 MiB, activations of 20 a sample, a gradient of 100; what is made in backward
# for a moment is 5 a sample.
STEP = Timeline(
    blocks=(
        BlockInfo(100 * MIB, 0, "parameter", "w"),
        BlockInfo(0, 20 * MIB, "activation", "a"),
        BlockInfo(100 * MIB, 0, "gradient", "w"),
        BlockInfo(0, 5 * MIB, "temporary", "b"),
    ),
    events=(1, 2, 3, 4, -4, -2, -3),
    event_modules=("", "a", "w", "b", "", "", ""),
    marks=(
        Mark(0, "load", 0),
        Mark(1, "forward", 1),
        Mark(2, "backward", 1),
        Mark(6, "step", 1),
        Mark(6, "zero_grad", 1),
        Mark(7, "end", 1),
    ),
)


def traced(total_bytes):
    workload = dataclasses.replace(TOY, device=Device("toy card", total_bytes), batch=2)
    predictor = TracedPredictor(STEP, {}, workload)
    return sweep(judge.judge(predictor, workload), predictor)


def test_the_fall_of_a_trace_is_the_request_that_found_no_memory():
    one = traced(2 * GIB)
    over = fall(one)
    assert over is not None
    assert over.is_replayed
    assert over.batch == one.largest + 1
    context = one.exactly(1).components["context"]
    room = one.usable_bytes - context
    # What is live at its death, by hand: the parameter, in backward the activation too.
    live = {"forward": 100, "backward": 100 + 20 * over.batch}[over.phase]
    if over.requested_bytes == 5 * over.batch * MIB:
        live += 100
    assert live * MIB + over.requested_bytes > room
    assert over.free_bytes < over.requested_bytes
    assert over.free_bytes <= room - live * MIB


def test_between_replays_the_total_is_the_predictors():
    one = traced(8 * GIB)
    known = {batch for batch, _ in one.knots}
    other = next(batch for batch in range(2, one.last) if batch not in known)
    shown = one.at(other)
    assert shown.process_bytes == min(one.predictor.process_bytes(other), one.usable_bytes)
    assert sum(shown.components.values()) == shown.process_bytes
    exact = one.exactly(other)
    for name in ("parameter", "gradient", "activation", "context"):
        assert shown.components[name] == pytest.approx(exact.components[name], rel=0.01)


def test_a_peak_that_moves_to_another_phase_is_found_to_the_batch():
    class Replays(Stairs):
        def at(self, batch):
            return dataclasses.replace(super().at(batch), method="trace")

    one = swept(Replays())
    assert [one.at(batch).peak_phase for batch in (4, 5, 6, 7)] == [
        "step",
        "step",
        "backward",
        "backward",
    ]
    assert one.at(5).components["activation"] == 0
    assert one.at(6).components["temporary"] == 0


def test_the_closed_forms_curve_is_the_closed_form():
    workload = Workload(find_model("gpt2"), batch=4, sequence=512, device=find_gpu("4090"))
    predictor = closed.predictor(workload)
    one = sweep(judge.judge(predictor, workload), predictor)
    for batch in (1, 7, one.largest, one.last):
        assert one.at(batch).components == predictor.at(batch).components
    over = fall(one)
    assert over is not None
    assert not over.is_replayed
    assert over.requested_bytes == predictor.process_bytes(over.batch) - one.usable_bytes > 0
