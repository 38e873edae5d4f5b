"""How often is counted, what is kept, and how the rate of steps is told."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import pytest

from vramtop.probe import pace as pace_module
from vramtop.probe.history import MAX_POINTS, History
from vramtop.probe.pace import DetailPace, Pace
from vramtop.probe.sampling import Sampler
from vramtop.probe.steps import StepClock


def spent(pace, cost_s, step_s=0.02, until_s=120.0):
    """Time spent in a training whose sampled steps cost this much, as a share."""
    now, total = 0.0, 0.0
    while now < until_s:
        now += step_s
        if pace.due(now):
            pace.begin(now)
            now += cost_s
            total += cost_s
            pace.spend(now, cost_s)
            pace.end(now, cost_s)
    return total / now


@pytest.mark.parametrize("cost_s", [0.0001, 0.003, 0.05])
def test_budget_holds_whatever_counting_costs(cost_s):
    assert spent(Pace(), cost_s) <= 0.0021
    watched = Pace()
    watched.watched_period_s = 0.1
    assert spent(watched, cost_s) <= 0.0105


def test_overhead_is_the_share_of_the_last_ten_seconds():
    pace = Pace()
    for second in range(100):
        pace.spend(float(second), 0.005)
    assert pace.overhead(99.0) == pytest.approx(0.0055, abs=0.0006)
    assert pace.overhead(200.0) == 0.0


def test_a_sampled_step_is_a_whole_cycle():
    pace = Pace()
    ends = []
    sampler = Sampler(pace, lambda: ends.append(1))
    thing, now, counted = pace, 0.0, []
    cycle = ["forward begins", "forward ends", "step begins", "step ends"]
    for step in range(400):
        for index, what in enumerate(cycle):
            now += 0.01
            if sampler.wants((what, 1), thing, now):
                counted.append((step, what))
                sampler.counted((what, 1), thing, {"cpu": [index, 0, 0, 0]}, now, 1e-6)
            assert sampler.current == {"cpu": [index, 0, 0, 0]}  # stands for it if not counted
    assert counted[:12] == [(step, what) for step in range(3) for what in cycle]
    assert len(ends) == pytest.approx(3 + 16, abs=2)  # then one a second of the 16
    assert {what for _, what in counted[16:]} == set(cycle)


def test_gradient_accumulation_does_not_count_every_forward():
    pace = Pace()
    sampler = Sampler(pace, lambda: None)
    counted, now = 0, 0.0
    for what in [("step ends", 1)] + [("forward begins", 2), ("forward ends", 2)] * 200:
        now += 0.001
        if sampler.wants(what, pace, now):
            counted += 1
            sampler.counted(what, pace, {}, now, 1e-6)
    assert counted == 1 + 12
    assert sampler.wants(("step begins", 1), pace, now)


def test_history_is_bounded_and_spans_everything():
    history = History()
    for second in range(3 * MAX_POINTS):
        at = 1e9 + second
        if history.due(at):
            history.add(at, {"cpu": [at, second], "cuda:0": [at, second]})
    for device in ("cpu", "cuda:0"):
        lines = [line for line in history.lines(500) if line["device"] == device]
        steps = [point[1] for line in lines for point in line["points"]]
        assert steps == sorted(steps)
        assert MAX_POINTS / 2 <= len(steps) <= MAX_POINTS
        assert steps[0] == 0
        assert steps[-1] > 3 * MAX_POINTS - 10


def test_rate_of_steps():
    clock = StepClock()
    assert clock.rate(0.0) is None
    clock.tick(0.0, 1)
    assert clock.rate(1.0) is None
    for number in range(2, 400):
        clock.tick(number * 0.05, number)
        clock.tick(number * 0.05, number // 5)  # a second optimizer, less often
    assert clock.rate(20.0) == pytest.approx(20.0, rel=0.05)
    assert clock.rate(60.0) < 10  # it has stopped
    slow = StepClock()
    slow.tick(0.0, 1)
    slow.tick(60.0, 2)
    assert slow.rate(61.0) == pytest.approx(1 / 60)
    slow.restart()
    assert slow.rate(62.0) is None


@pytest.fixture
def at(monkeypatch):
    """``at(seconds)`` sets the clocks that the pace reads: the world's, and another since 40 s."""
    now = [0.0]
    clocks = SimpleNamespace(time=lambda: now[0], perf_counter=lambda: now[0] - 40)
    monkeypatch.setattr(pace_module, "time", clocks)
    return lambda seconds: now.__setitem__(0, seconds)


def recorded(pace, cost_s):
    pace.begin()
    pace.end(cost_s)


def test_nothing_is_recorded_while_nobody_watches(at):
    at(1e9)
    pace = DetailPace()
    assert not pace.due()
    assert pace.due_at() == float("inf")
    pace.watched = True
    assert pace.due()
    assert pace.due_at() <= 1e9 - 40
    recorded(pace, 0.001)
    pace.watched = False
    at(2e9)
    assert not pace.due()
    assert pace.overhead == 0.0


def test_at_most_one_recording_a_second(at):
    pace = DetailPace()
    pace.watched = True
    recordings = 0
    for step in range(1000):  # ten seconds of steps
        at(1e9 + step * 0.01)
        if pace.due():
            recordings += 1
            recorded(pace, 0.0001)
    assert recordings == 10


@pytest.mark.parametrize("cost_s", [0.0001, 0.004, 0.011, 0.07, 1.0])
def test_dearer_recordings_come_more_seldom(at, cost_s):
    pace = DetailPace()
    pace.watched = True
    begun = []
    for second in range(5000):
        at(1e9 + second)
        if pace.due():
            begun.append(second)
            recorded(pace, cost_s)
    (spacing_s,) = {later - earlier for earlier, later in pairwise(begun[1:])}
    assert spacing_s in {1 << power for power in range(11)}
    assert cost_s / spacing_s <= 0.005  # half of the hundredth that all watching may cost
    assert spacing_s == 1 or cost_s / spacing_s > 0.001  # and no more seldom than that asks for
    assert pace.overhead == pytest.approx(cost_s / spacing_s)
    last = 1e9 + begun[-1]
    at(last)
    assert pace.due_at() + 40 == pytest.approx(last + spacing_s - last % spacing_s)


def test_ranks_begin_at_the_same_time(at):
    # Each notices at its own steps, which come at other moments, that a slot has begun; what a
    # recording costs each is not quite the same.
    ranks = [DetailPace() for _ in range(4)]
    slots = [[] for _ in ranks]
    for step in range(3000):
        for rank, pace in enumerate(ranks):
            now = 1e9 + step * 0.05 + rank * 0.01
            at(now)
            pace.watched = True
            if pace.due():
                slots[rank].append(int(now // 4))
                recorded(pace, 0.012 + 0.001 * rank)
    settled = [found[2:] for found in slots]
    assert settled[0]
    assert all(found == settled[0] for found in settled)
