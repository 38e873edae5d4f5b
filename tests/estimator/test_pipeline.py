"""Stages of a pipeline from a timeline that is written down by hand."""

import pytest

from vramtop.estimator.pipeline import stage
from vramtop.estimator.timeline import BlockInfo, Mark, Timeline
from vramtop.estimator.workload import Model, Parallel, Workload

GB = 1000
# Embedding 8, two layers of 10, head 6; activations a sample: embedding 1, layers 5 each, logits 7.
BLOCKS = (
    BlockInfo(8 * GB, 0, "parameter", "embed.weight"),
    BlockInfo(10 * GB, 0, "parameter", "layers.0.weight", 0),
    BlockInfo(10 * GB, 0, "parameter", "layers.1.weight", 1),
    BlockInfo(6 * GB, 0, "parameter", "head.weight"),
    BlockInfo(0, 1 * GB, "activation", "embed"),
    BlockInfo(0, 5 * GB, "activation", "layers.0", 0),
    BlockInfo(0, 5 * GB, "activation", "layers.1", 1),
    BlockInfo(0, 7 * GB, "activation", "head"),
    BlockInfo(6 * GB, 0, "gradient", "head.weight"),
    BlockInfo(10 * GB, 0, "gradient", "layers.1.weight", 1),
    BlockInfo(10 * GB, 0, "gradient", "layers.0.weight", 0),
    BlockInfo(8 * GB, 0, "gradient", "embed.weight"),
    # A temporary of the optimizer's for each parameter, in their order.
    BlockInfo(8 * GB, 0, "temporary", "embed.weight"),
    BlockInfo(10 * GB, 0, "temporary", "layers.0.weight", 0),
    BlockInfo(10 * GB, 0, "temporary", "layers.1.weight", 1),
    BlockInfo(6 * GB, 0, "temporary", "head.weight"),
)
EVENTS = (
    *(1, 2, 3, 4),
    *(5, 6, 7, 8),
    *(9, -8, 10, -7, 11, -6, 12, -5),
    *(13, 14, 15, 16, -13, -14, -15, -16),
    *(-9, -10, -11, -12),
)
MARKS = (
    Mark(0, "load", 0),
    Mark(4, "forward", 1),
    Mark(8, "backward", 1),
    Mark(16, "step", 1),
    Mark(24, "zero_grad", 1),
    Mark(28, "end", 1),
)
TIMELINE = Timeline(BLOCKS, EVENTS, MARKS, ("",) * len(EVENTS), 1)


def workload(**parallel):
    return Workload(Model("by hand"), parallel=Parallel(**parallel))


def live(timeline, batch=1):
    """Bytes after each event, in GB."""
    total, after = 0, []
    for event in timeline.events:
        size = timeline.blocks[abs(event) - 1].size_bytes(batch)
        total += size if event > 0 else -size
        after.append(total // GB)
    return after


def at_marks(timeline, batch=1):
    after = [0, *live(timeline, batch)]
    return {mark.phase: after[mark.event] for mark in timeline.marks}


def test_the_first_stage_has_the_embedding_and_all_in_flight():
    made = stage(TIMELINE, workload(gpus=4, pipeline=4, micro_batches=8), "front")
    assert not any("head" in block.module for block in made.blocks)
    # Four micro-batches at once: three beside its own, of 10 GB of activations each.
    assert at_marks(made) == {
        "load": 0,
        "forward": 28,
        "backward": 28 + 11 + 30,
        "step": 28 + 28 + 30,
        "zero_grad": 56,
        "end": 28,
    }
    assert max(live(made)) == 28 + 28 + 30 + 1  # the embedding's own, which backward ends with


def test_the_last_stage_has_the_head_and_nothing_else_in_flight():
    made = stage(TIMELINE, workload(gpus=4, pipeline=4, micro_batches=8), "back")
    assert not any("embed" in block.module for block in made.blocks)
    assert at_marks(made)["backward"] == 26 + 17
    assert max(live(made)) == 26 + 26 + 26  # the optimizer's temporaries


@pytest.mark.parametrize(("micro_batches", "others"), [(1, 0), (2, 1), (3, 2), (4, 3), (64, 3)])
def test_no_more_in_flight_than_there_are(micro_batches, others):
    made = stage(TIMELINE, workload(gpus=4, pipeline=4, micro_batches=micro_batches), "front")
    assert at_marks(made)["backward"] == 28 + 11 + 10 * others
    assert at_marks(made, batch=3)["backward"] == 28 + 3 * (11 + 10 * others)
