"""The statistics find a cost that is known, as often as they claim, in noise like the machine's."""

import math
import random

from tests.bench.paired import Estimate, ratio, share


def noisy_steps(dice, count):
    """Seconds of steps on a machine that drifts, and stumbles once in fifty steps."""
    speed = 1.0
    for _ in range(count):
        speed = 0.97 * speed + 0.03 * math.exp(dice.gauss(0, 0.8))
        yield 0.01 * speed * math.exp(dice.gauss(0, 0.05)) * (2.5 if dice.random() < 0.02 else 1)


def test_a_known_ratio_is_found_and_the_interval_keeps_its_promise():
    dice = random.Random(5)
    for true in (1.0, 1.01):
        found = []
        for _ in range(60):
            steps = noisy_steps(dice, 800)
            pairs = [(first * true, second) for first, second in zip(steps, steps, strict=False)]
            found.append(ratio(pairs))
        covered = sum(abs(e.value - true) <= e.reach for e in found)
        assert covered >= 0.85 * len(found)
        assert abs(sum(e.value for e in found) / len(found) - true) < 0.002


def test_rare_events_count_in_full():
    """Ten steps that take three times as long, in a thousand, make these 2 % longer."""
    dice = random.Random(7)
    found = []
    for _ in range(40):
        steps = noisy_steps(dice, 100_000)
        pairs = [(next(steps), next(steps)) for _ in range(1000)]
        events = []
        for at in range(50, 1000, 100):
            here = pairs[at][1] / 0.01
            events.append((at, 0.01 * here * (3 + 3), 4))  # itself and three after it
        found.append(share(events, pairs, sum(without for _, without in pairs)))
    average = sum(e.value for e in found) / len(found)
    assert abs(average - 0.02) < 0.004


def test_a_verdict_says_when_it_cannot_be_told():
    assert Estimate(1.004, 0.002).verdict(1.01) == "met"
    assert Estimate(1.004, 0.010).verdict(1.01) == "cannot be told"
    assert Estimate(1.030, 0.010).verdict(1.01) == "not met"
