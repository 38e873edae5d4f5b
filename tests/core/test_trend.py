from __future__ import annotations

import random

import pytest

from vramtop.core.trend import Sample, envelopes, goes_on, is_staircase, trend


def line(slope: float, noise: float = 0.0, count: int = 12, seed: int = 0) -> list[Sample]:
    chance = random.Random(seed)
    return [(t, 100 + slope * t + chance.gauss(0, noise)) for t in range(count)]


def test_the_slope_of_a_line_and_its_interval_are_exact() -> None:
    found = trend(line(3.0))
    assert (found.slope, found.low, found.high, found.tau) == (3.0, 3.0, 3.0, 1.0)


def test_a_third_of_wild_values_moves_the_slope_little() -> None:
    samples = line(3.0)
    for i in (2, 6, 9):
        samples[i] = (samples[i][0], 1e6)
    assert trend(samples).slope == pytest.approx(3.0, rel=0.35)


def test_the_interval_holds_the_slope_nearly_always() -> None:
    """Nineteen times in twenty is promised."""
    within = 0
    for seed in range(400):
        found = trend(line(3.0, noise=4.0, seed=seed))
        within += found.low <= 3.0 <= found.high
    assert within >= 0.93 * 400


@pytest.mark.parametrize("jumps", [1, 2, 3, 4])
def test_tau_of_equal_jumps_is_what_the_threshold_counts_on(jumps: int) -> None:
    """The documented k / (k + 1), in the limit of many samples."""
    samples = [(float(t), float(t * (jumps + 1) // 600)) for t in range(600)]
    assert trend(samples).tau == pytest.approx(jumps / (jumps + 1), abs=0.01)


def test_envelopes_are_the_lowest_and_highest_of_each_run_and_lose_none() -> None:
    chance = random.Random(1)
    samples = [(float(t), chance.random()) for t in range(101)]
    lower, upper = envelopes(samples, 7)
    assert len(lower) == len(upper) == 7
    assert min(samples, key=lambda s: s[1]) in lower
    assert max(samples, key=lambda s: s[1]) in upper
    assert sorted(upper) == upper  # still in order of time


def test_one_or_two_jumps_are_a_staircase_and_steady_growth_is_not() -> None:
    for places in ((4,), (2, 8)):
        jumps = [(float(t), float(sum(t >= place for place in places))) for t in range(12)]
        assert is_staircase(jumps)
    assert not is_staircase(line(1.0))
    assert not is_staircase(line(1.0, count=6))
    assert not is_staircase(line(3.0, noise=1.0))


def saturating(limit: float, share_a_sample: float) -> list[Sample]:
    left, samples = limit, []
    for t in range(12):
        samples.append((float(t), limit - left))
        left *= 1 - share_a_sample
    return samples


def test_growth_that_levels_off_goes_on_only_to_where_it_ends() -> None:
    samples = saturating(1000.0, 0.1)
    left = 1000.0 - samples[-1][1]
    assert goes_on(samples, 0.7 * left)
    assert not goes_on(samples, 1.3 * left)


def test_a_line_goes_on_for_ever() -> None:
    assert goes_on(line(1.0), 1e12)
    assert goes_on(line(1.0, noise=0.5), 1e12)
    assert not goes_on(line(1.0)[:5], 1e12)  # too few to have two halves
