"""The envelope against the sums themselves, at every batch size."""

import random

import pytest

from vramtop.estimator.envelope import Envelope
from vramtop.estimator.timeline import BlockInfo, Mark, Timeline


def timeline_of(sizes, events):
    blocks = tuple(BlockInfo(base, slope, "activation", "") for base, slope in sizes)
    return Timeline(blocks, tuple(events), (Mark(0, "load", 0),))


def peak(timeline, batch):
    live, most = 0, 0
    for event in timeline.events:
        size = timeline.blocks[abs(event) - 1].size_bytes(batch)
        live += size if event > 0 else -size
        most = max(most, live)
    return most


def random_timeline(seed):
    chosen = random.Random(seed)
    sizes, events, live = [], [], []
    for _ in range(200):
        if live and chosen.random() < 0.45:
            events.append(-live.pop(chosen.randrange(len(live))))
            continue
        sizes.append((chosen.randrange(10_000), chosen.choice([0, 0, chosen.randrange(500)])))
        live.append(len(sizes))
        events.append(len(sizes))
    return timeline_of(sizes, events)


@pytest.mark.parametrize("seed", range(20))
def test_peak_of_any_batch_is_that_of_the_sums(seed):
    timeline = random_timeline(seed)
    envelope = Envelope(timeline)
    assert [envelope.peak_bytes(b) for b in range(1, 200)] == [
        peak(timeline, b) for b in range(1, 200)
    ]


def test_the_moment_of_the_peak_moves_with_the_batch():
    # An optimizer's temporary of 1000 against 30 a sample of activations, on 100 of parameters.
    timeline = timeline_of([(100, 0), (0, 30), (1000, 0)], [1, 2, -2, 3, -3])
    envelope = Envelope(timeline)
    assert envelope.peak_bytes(10) == 1100
    assert envelope.peak_bytes(33) == 1100
    assert envelope.peak_bytes(34) == 1120


def test_workspaces_have_the_size_of_the_device():
    blocks = (BlockInfo(100, 0, "parameter", ""), BlockInfo(0, 0, "workspace", ""))
    timeline = Timeline(blocks, (1, 2), (Mark(0, "load", 0),))
    assert Envelope(timeline, workspace_bytes=32).peak_bytes(7) == 132
