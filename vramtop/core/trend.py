"""Whether a noisy series rises, and how fast: envelopes, Theil-Sen slope, Mann-Kendall test.

The slope is the median of the slopes of all pairs, its interval follows from the variance of
Kendall's S (P. K. Sen, Estimates of the regression coefficient based on Kendall's tau, JASA 63,
1968). Whether there is one at all is judged by Kendall's tau (H. B. Mann, Nonparametric tests
against trend, Econometrica 13, 1945), equal values counting neither way. Neither asks what the
noise looks like, and a few wild values do not move them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from statistics import median
from typing import Final

Sample = tuple[float, float]
"""A time in seconds (or a number of steps) and a value."""

value_of: Final = itemgetter(1)
"""Of a sample."""
_NORMAL_95: Final = 1.96
_MIN_HALF: Final = 3
"""Samples in each half, to speak of their slope."""
_HALF_RISES: Final = 0.4
"""Of the whole's slope: a jump leaves one half flat."""
_WITHOUT_JUMPS: Final = 0.35
"""What is left of a rise without its two largest parts; of a straight line of six, three fifths."""
_STEADY: Final = 0.8
"""The second half's slope by the first's; below, growth is slowing."""


@dataclass(frozen=True, slots=True)
class Trend:
    """A slope with its interval of 95 %."""

    slope: float
    low: float
    high: float
    tau: float
    """Rising pairs less falling ones, by all pairs: 1 rises always, -1 falls always; k equal
    jumps reach k / (k + 1)."""

    @property
    def relative_width(self) -> float:
        """Width of the interval by the slope, which must be positive."""
        return (self.high - self.low) / self.slope


def trend(samples: Sequence[Sample]) -> Trend:
    """The trend of three samples or more, in order of time, no two at the same."""
    slopes: list[float] = []
    rising = 0
    for i, (at, value) in enumerate(samples):
        for later_at, later in samples[i + 1 :]:
            rising += (later > value) - (later < value)
            slopes.append((later - value) / (later_at - at))
    slopes.sort()
    n, pairs = len(samples), len(slopes)
    spread = _NORMAL_95 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low = max(round((pairs - spread) / 2) - 1, 0)
    high = min(round((pairs + spread) / 2), pairs - 1)
    return Trend(median(slopes), slopes[low], slopes[high], rising / pairs)


def envelopes(samples: Sequence[Sample], windows: int) -> tuple[list[Sample], list[Sample]]:
    """The lowest and the highest sample of each of ``windows`` runs of the same length."""
    lower, upper = [], []
    edges = [window * len(samples) // windows for window in range(windows + 1)]
    for start, end in pairwise(edges):
        run = samples[start:end]
        lower.append(min(run, key=value_of))
        upper.append(max(run, key=value_of))
    return lower, upper


def is_staircase(samples: Sequence[Sample]) -> bool:
    """Whether two jumps make up most of a rise."""
    rises = sorted(later - value for (_, value), (_, later) in pairwise(samples))
    return sum(rises[:-2]) < _WITHOUT_JUMPS * sum(rises)


def goes_on(samples: Sequence[Sample], room: float) -> bool:
    """Whether growth does not level off before it has filled ``room``.

    Both halves must rise. Where the second rises more slowly than the first, by much or beyond
    doubt, it is taken to go on slowing by the same factor in every further half: a geometric
    series, which has an end.
    """
    middle = len(samples) // 2
    if middle < _MIN_HALF:
        return False
    first, second = trend(samples[:middle]), trend(samples[middle:])
    if min(first.slope, second.slope) < _HALF_RISES * trend(samples).slope:
        return False
    ratio = second.slope / first.slope
    if ratio >= 1 or (ratio >= _STEADY and second.high >= first.low):
        return True
    half = samples[middle][0] - samples[0][0]
    return second.slope * half * ratio / (1 - ratio) >= room
