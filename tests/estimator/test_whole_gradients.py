"""Gradients that stay whole between micro-batches, on a timeline counted by hand."""

from vramtop.estimator.timeline import BlockInfo, Mark, Timeline
from vramtop.estimator.whole_gradients import applies, keep_whole
from vramtop.estimator.workload import Model, Workload


def block(size, category, layer, operation=""):
    return BlockInfo(size, 0, category, f"layers.{layer}", layer, operation)


def peaks(timeline):
    """The most bytes in each phase."""
    live, found = 0, {}
    ends = [mark.event for mark in timeline.marks[1:]] + [len(timeline.events)]
    for mark, end in zip(timeline.marks, ends, strict=True):
        most = live
        for event in timeline.events[mark.event : end]:
            size = timeline.blocks[abs(event) - 1].base_bytes
            live += size if event > 0 else -size
            most = max(most, live)
        found[mark.phase] = most
    return found


def test_a_layers_whole_gradient_is_there_until_the_step_and_then_its_shard():
    # One GPU: two layers of 100 bytes frozen and 10 trained each.
    one = Timeline(
        tuple(block(size, "parameter", layer) for layer in (0, 1) for size in (100, 10)),
        (1, 2, 3, 4),
        (Mark(0, "load", 0),),
    )
    # A rank of two: shards of 55; in backward a whole gradient of 10, reduced to a shard of 5.
    blocks = (
        block(55, "parameter", 0),
        block(55, "parameter", 1),
        block(10, "gradient", 1),
        block(10, "temporary", 1, "fsdp::reduce_scatter"),
        block(5, "gradient", 1, "fsdp::shard"),
        block(10, "gradient", 0),
        block(5, "gradient", 0, "fsdp::shard"),
    )
    events = (1, 2, 3, 4, 5, -3, -4, 6, 7, -6, -5, -7)
    marks = (
        Mark(0, "load", 0),
        Mark(2, "backward", 1),
        Mark(10, "step", 1),
        Mark(10, "zero_grad", 1),
    )
    made = keep_whole(Timeline(blocks, events, marks), one)
    # Shards 110; whole gradients of both flat parameters, 110 each; then their shards, 5 each.
    assert peaks(made) == {"load": 110, "backward": 330, "step": 120, "zero_grad": 120}
    assert made.notes


def test_only_where_a_library_accumulates_so():
    model = Model("m", {})
    assert applies(Workload(model, stack="litgpt", grad_accumulation=4))
    assert not applies(Workload(model, stack="litgpt"))
    assert not applies(Workload(model, stack="plain", grad_accumulation=4))
    assert not applies(Workload(model, stack="litgpt", mode="inference", grad_accumulation=4))
