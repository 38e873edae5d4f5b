"""Verdicts, largest batches and curves, from a predictor that is a straight line."""

from __future__ import annotations

import pytest

from vramtop.errors import UsageError
from vramtop.estimator import catalog, judge
from vramtop.estimator.result import COMPONENTS, Footprint
from vramtop.estimator.timeline import BlockInfo, Mark, Timeline
from vramtop.estimator.traced import TracedPredictor
from vramtop.estimator.workload import AllocatorConfig, Device, Model, Workload

GIB, MIB = 1 << 30, 1 << 20
CARD = Device("NVIDIA A100-SXM4-80GB", 80 * GIB)
USABLE = (80 << 30) - (669 << 20)
WORKLOAD = Workload(Model("toy", {"model_type": "toy"}), device=CARD)


class Line:
    """``base + slope · batch`` bytes."""

    def __init__(self, base, slope, method="trace"):
        self.base, self.slope, self.method = base, slope, method
        self.asked = 0

    def process_bytes(self, batch):
        self.asked += 1
        return self.base + self.slope * batch

    def at(self, batch):
        size = self.base + self.slope * batch
        components = dict.fromkeys(COMPONENTS, 0) | {"parameter": size}
        return Footprint(self.method, components, (), size, size, size, "step")


class Replayed(Line):
    saves = 3 * GIB
    lives = True

    def with_allocator(self, allocator):
        assert allocator == AllocatorConfig(expandable_segments=True)
        return Line(self.base - self.saves, self.slope)

    def within(self, batch, usable_bytes):
        assert usable_bytes == USABLE
        return Line(usable_bytes // 2, 0).at(batch) if self.lives else None


def judged(line, workload=WORKLOAD):
    return judge.judge(line, workload, lambda changed: Line(line.base, line.slope))


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.5, "fits"), (0.98, "tight"), (1.02, "tight"), (1.2, "oom")]
)
def test_the_verdict_is_sure_only_where_the_whole_range_is(share, verdict):
    assert judged(Line(int(USABLE * share), 0)).verdict == verdict


def test_less_is_known_by_formulas_than_by_traces():
    traced = judged(Line(70 * GIB, 0))
    closed = judged(Line(70 * GIB, 0, "closed-form"))
    assert (traced.verdict, closed.verdict) == ("fits", "tight")
    assert closed.uncertainty.low_bytes < traced.uncertainty.low_bytes < 70 * GIB
    assert closed.uncertainty.high_bytes > traced.uncertainty.high_bytes > 70 * GIB


@pytest.mark.parametrize("base", [0, 10 * GIB, 79 * GIB, USABLE - 5, 200 * GIB])
@pytest.mark.parametrize("slope", [1, 12345, GIB // 3, 2 * GIB, 7 * GIB + 1, 90 * GIB])
def test_the_largest_batch_is_the_last_that_fits(base, slope):
    line = Line(base, slope)
    largest = judge.max_batch(line.process_bytes, USABLE)
    # By hand: the line solved for the batch.
    expected = min(max((USABLE - base) // slope, 0), 1 << 16)
    assert largest == expected
    assert line.asked < 70


def test_the_safe_batch_fits_for_sure_and_the_next_does_not():
    estimate = judged(Line(10 * GIB, GIB))
    assert estimate.max_micro_batch == 69
    safe = estimate.safe_micro_batch
    verdicts = [judged(Line((10 + batch) * GIB, 0)).verdict for batch in (safe, safe + 1)]
    assert verdicts == ["fits", "tight"]


@pytest.mark.parametrize("method", ["trace", "closed-form", "seed"])
def test_fits_below_bytes_is_the_verdict_solved(method):
    most = judge.fits_below_bytes(CARD, method)
    verdicts = [
        judge.verdict_of(judge.uncertainty_of(method, size), USABLE) for size in (most, most + 1)
    ]
    assert verdicts == ["fits", "tight"]


def test_the_curve_goes_beyond_the_cliff_and_has_the_asked_batch():
    estimate = judged(Line(10 * GIB, GIB), WORKLOAD.with_batch(5))
    batches = [batch for batch, _ in estimate.curve]
    assert batches == sorted(set(batches))
    assert {1, 5, 69, 70} <= set(batches)
    assert 10 <= len(batches) <= 20
    assert estimate.curve[-1][1] > USABLE
    assert all(size == (10 + batch) * GIB for batch, size in estimate.curve)


def test_on_a_full_card_the_replay_gives_back():
    # 40 MiB come, go and stay cached, then 60 are wanted: 100 reserved, or 60 of 70 to be had.
    blocks = (BlockInfo(40 * MIB, 0, "activation", ""), BlockInfo(60 * MIB, 0, "activation", ""))
    timeline = Timeline(blocks, (1, -1, 2, -2), (Mark(0, "forward", 1),))
    predictor = TracedPredictor(timeline, {}, WORKLOAD)
    context = predictor.at(1).components["context"]
    assert predictor.at(1).peak_reserved_bytes == 100 * MIB
    held = predictor.within(1, 70 * MIB + context)
    assert (held.peak_reserved_bytes, held.process_bytes) == (60 * MIB, 60 * MIB + context)
    assert predictor.within(1, 50 * MIB + context) is None


@pytest.mark.parametrize("asked", [1, 5, 12, 40])
def test_the_largest_batch_is_the_same_whatever_is_asked(asked):
    # Sizes that fall into other segments from batch to batch, so that reserved is no line.
    blocks = [BlockInfo(0, 7 * MIB * (1 + i % 5), "activation", "") for i in range(60)]
    events = [*range(1, 61), *range(-60, 0, 2), *range(1, 31)]
    del events[90:]
    timeline = Timeline(tuple(blocks), tuple(events), (Mark(0, "forward", 1),), least_batch=1)
    workload = Workload(WORKLOAD.model, batch=asked, device=Device("small", 40 * GIB))
    estimate = judge.judge(TracedPredictor(timeline, {}, workload), workload)
    usable = judge.usable_bytes(workload.device)
    fresh = TracedPredictor(timeline, {}, workload)
    runs = [fresh.within(batch, usable) is not None for batch in range(1, 60)]
    assert estimate.max_micro_batch == runs.index(False)


def test_without_a_device_there_is_no_verdict():
    estimate = judged(Line(10 * GIB, GIB), Workload(Model("toy", {})))
    assert estimate.verdict is estimate.max_micro_batch is estimate.safe_micro_batch is None
    assert len(estimate.curve) >= 8


def test_nothing_fits():
    estimate = judged(Line(100 * GIB, GIB))
    assert (estimate.verdict, estimate.max_micro_batch, estimate.safe_micro_batch) == ("oom", 0, 0)


def test_cached_memory_that_can_be_given_back_kills_nothing():
    line = Replayed(100 * GIB, 0)
    estimate = judged(line)
    assert estimate.verdict == "tight"
    assert estimate.footprint.process_bytes == USABLE // 2
    assert any("give cached memory back" in note for note in estimate.footprint.notes)
    line.lives = False
    assert judged(line).verdict == "oom"


def test_expandable_segments_are_advised_by_what_their_replay_saves():
    (advice,) = (one for one in judged(Replayed(60 * GIB, 0)).advice if one.saves_bytes == 3 * GIB)
    assert advice.options == {"--alloc-conf": "expandable_segments:True"}


def test_of_code_without_formulas_only_the_replay_gives_advice():
    def no_formulas(workload):
        raise UsageError("it is code")

    for line, options in ((Line(GIB, 0), []), (Replayed(60 * GIB, 0), ["--alloc-conf"])):
        advice = judge.judge(line, WORKLOAD, no_formulas).advice
        assert [option for one in advice for option in one.options] == options


def test_every_device_keeps_some_memory_for_its_driver():
    for device in catalog.gpus():
        share = 1 - judge.usable_bytes(device) / device.total_bytes
        assert 0.003 < share < 0.021, device.name


def test_a_b200_has_what_cuda_was_seen_to_have():
    b200 = catalog.find_gpu("b200")
    assert judge.usable_bytes(b200) == 182642 << 20
