"""Statistics of paired times: ratios with a 95 % interval that a noisy machine does not spoil.

Speed on a shared machine drifts by tens of percent within a second, so only neighbours in time
are compared, and of many such ratios the centre is taken that outliers hardly move.
"""

import math
import random
import statistics
from dataclasses import dataclass

Z = 1.96


@dataclass(frozen=True)
class Estimate:
    """A value and how far its 95 % interval reaches to either side."""

    value: float
    reach: float

    def __add__(self, other):
        """The sum of two that were estimated from different steps."""
        return Estimate(self.value + other.value, math.hypot(self.reach, other.reach))

    def __format__(self, spec):
        return f"{self.value:{spec or '.4f'}} ±{self.reach:{spec or '.4f'}}"

    def __str__(self):
        return f"{self}"

    def verdict(self, aim):
        """Whether the value is at most the aim, as far as the interval tells."""
        if self.value + self.reach <= aim:
            return "met"
        return "not met" if self.value - self.reach > aim else "cannot be told"


def ratio(pairs):
    """How many times the first of each pair is the second.

    The median of all means of two log ratios (Hodges and Lehmann 1963): as deaf to outliers as it
    needs to be, nearly as sharp as a mean, and a small cost in a few pairs still moves it. Its
    interval is that of Wilcoxon's signed ranks.
    """
    logs = [math.log(first / second) for first, second in pairs]
    if len(logs) > 1500:  # all means of two would be millions; those of a sample do as well
        dice = random.Random(0)
        means = sorted((dice.choice(logs) + dice.choice(logs)) / 2 for _ in range(1_000_000))
    else:
        means = sorted((a + b) / 2 for i, a in enumerate(logs) for b in logs[i:])
    count = len(logs)
    # The share of means that lie outside on one side, by the normal approximation.
    share = 0.5 - Z * math.sqrt(count * (count + 1) * (2 * count + 1) / 24) / (
        count * (count + 1) / 2
    )
    low, middle, high = (means[int(q * (len(means) - 1))] for q in (max(share, 0), 0.5, 1 - share))
    return Estimate(math.exp(middle), (math.exp(high) - math.exp(low)) / 2)


def mean(values):
    """The plain mean: for what is rare and must count in full; unknown interval if only one."""
    if len(values) < 2:
        return Estimate(values[0], math.inf)
    free = len(values) - 1
    # Student's quantile by Abramowitz and Stegun 26.7.5, two terms.
    quantile = Z + (Z**3 + Z) / (4 * free) + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * free**2)
    return Estimate(
        statistics.mean(values), quantile * statistics.stdev(values) / math.sqrt(len(values))
    )


def share(events, pairs, seconds, neighbours=8):
    """What events of one kind add to a time of so many seconds, as a share of it.

    ``events`` are (index of the pair they came before, seconds, steps); of each, what its steps
    would have taken by the steps without on either side is taken away. ``pairs`` hold (with,
    without).
    """
    if not events:
        return Estimate(0.0, 0.0)
    extra = []
    for at, taken, steps in events:
        near = [without for _, without in pairs[max(at - neighbours, 0) : at + neighbours]]
        extra.append(taken - steps * statistics.mean(near))
    each = mean(extra)
    return Estimate(each.value * len(events) / seconds, each.reach * len(events) / seconds)
