"""Sharded training that leaves out the reduction between micro-batches: gradients stay whole.

FSDP1 under ``no_sync`` (torch/distributed/fsdp/_flat_param.py and _runtime_utils.py): a unit's
gradient is that of its flat parameter, so it has room for frozen parameters too, and it is
reduced after the last micro-batch. Lightning's ``no_backward_sync`` is this. A unit without any
trainable parameter has none.
"""

from __future__ import annotations

from collections import defaultdict

from .rewrite import Rewriter
from .stacks import FACTS
from .timeline import BlockInfo, Timeline
from .workload import Workload

_REDUCED = "fsdp::reduce_scatter"


def applies(workload: Workload) -> bool:
    """Whether the library of a workload accumulates so."""
    facts = FACTS[workload.stack]
    return (
        workload.training
        and facts.whole_gradients_while_accumulating
        and workload.grad_accumulation > 1
    )


def keep_whole(sharded: Timeline, timeline: Timeline) -> Timeline:
    """A rank's timeline with whole gradients; ``timeline`` is the one of one GPU.

    A unit's gradient is there from its first gradient in a step until the optimizer's step, when
    the shards take its place.
    """
    sizes: dict[int | None, int] = defaultdict(int)
    for block in timeline.blocks:
        if block.category == "parameter":
            sizes[block.layer] += block.base_bytes
    new = Rewriter(sharded.blocks)
    marks = list(sharded.marks)
    whole: dict[int | None, int] = {}
    left_out: dict[int, bool] = {}
    phase = ""
    for position in range(len(sharded.events) + 1):
        while marks and marks[0].event == position:
            phase = marks[0].phase
            if phase == "step":
                _reduce(new, whole, left_out)
            new.mark(marks.pop(0))
        if position == len(sharded.events):
            break
        if sharded.event_modules:
            new.module = sharded.event_modules[position]
        event = sharded.events[position]
        number = abs(event) - 1
        if event < 0:
            if left_out.pop(number, None) is None:
                new.release(number)
            continue
        block = sharded.blocks[number]
        if phase == "backward" and (block.category == "gradient" or block.operation == _REDUCED):
            left_out[number] = block.category == "gradient"
            if block.layer not in whole:
                flat = BlockInfo(sizes[block.layer], 0, "gradient", block.module, block.layer)
                whole[block.layer] = new.add(flat)
            continue
        new.allocate(number)
    return new.finish(sharded, "whole gradients while accumulating, as FSDP's no_sync keeps them")


def _reduce(new: Rewriter, whole: dict[int | None, int], left_out: dict[int, bool]) -> None:
    """Every unit's whole gradient gives way to its shard."""
    for number in whole.values():
        new.release(number)
    whole.clear()
    for number, gradient in list(left_out.items()):
        if gradient:
            new.allocate(number)
            del left_out[number]
