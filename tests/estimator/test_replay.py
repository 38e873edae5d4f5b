"""Small timelines replayed, their peaks, phases and layouts worked out by hand."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from vramtop.core.segments import totals
from vramtop.estimator.replay import Death, PhaseReplay, replay, segment_map
from vramtop.estimator.timeline import BlockInfo, Mark, Timeline
from vramtop.estimator.workload import AllocatorConfig

MIB = 1 << 20
PLAIN = AllocatorConfig()
EXPANDABLE = AllocatorConfig(expandable_segments=True)


def block(
    base: float, slope: float = 0, category: str = "activation", module: str = ""
) -> BlockInfo:
    return BlockInfo(int(base * MIB), int(slope * MIB), category, module)


STEP = Timeline(
    blocks=(
        block(40, category="parameter"),
        block(0, 12),
        block(0, 20, category="input"),
        block(40, category="gradient"),
        block(0, category="workspace"),
        block(0, 6, category="temporary"),
    ),
    #       p  act in | in   grad ws tmp tmp  act | grad
    events=(1, 3, 2, -3, 4, 5, 6, -6, -2, -4),
    event_modules=("", "", "a", "a", "b.c", "b.c", "b.d", "", "a", ""),
    marks=(
        Mark(0, "load", 0),
        Mark(1, "forward", 1),
        Mark(4, "backward", 1),
        Mark(9, "step", 1),
        Mark(9, "zero_grad", 1),
        Mark(10, "end", 1),
    ),
)


def test_peak_phases_and_components_by_hand() -> None:
    done = replay(STEP, 2, config=PLAIN, workspace_bytes=8 * MIB)
    # 40 + 40 + 24 | -40 | + 40 + 8 + 12 = 124 in backward; 104 in forward. The workspace shares
    # a segment of 20 MiB.
    assert done.peak_allocated_bytes == 124 * MIB
    assert done.components == {
        "parameter": 40 * MIB,
        "activation": 24 * MIB,
        "gradient": 40 * MIB,
        "workspace": 8 * MIB,
        "temporary": 12 * MIB,
    }
    assert (done.peak_event, done.peak_phase, done.peak_step) == (6, "backward", 1)
    assert done.peak_module == "b.d"
    assert done.phases == (
        PhaseReplay("load", 0, 40 * MIB, 40 * MIB),
        PhaseReplay("forward", 1, 64 * MIB, 104 * MIB),
        PhaseReplay("backward", 1, 88 * MIB, 124 * MIB),
        PhaseReplay("step", 1, 88 * MIB, 88 * MIB),
        PhaseReplay("zero_grad", 1, 48 * MIB, 88 * MIB),
        PhaseReplay("end", 1, 48 * MIB, 48 * MIB),
    )
    # Segments: 40 and 40 (input, then the gradient) and 24, 20 for the workspace, then the
    # temporary's 12 fit behind it.
    assert done.peak_reserved_bytes == done.end_reserved_bytes == 124 * MIB
    assert done.reserved_peak_event == 5
    assert done.allocated_at_reserved_peak_bytes == 112 * MIB
    assert done.fragmentation_bytes == 12 * MIB
    assert done.death is None


def test_the_phase_of_the_peak_moves_with_the_batch() -> None:
    # Activations 12b and input 20b against gradient 40, workspace 8 and temporary 6b.
    assert replay(STEP, 3, config=PLAIN, workspace_bytes=8 * MIB).peak_phase == "backward"
    done = replay(STEP, 4, config=PLAIN, workspace_bytes=8 * MIB)
    assert (done.peak_phase, done.peak_allocated_bytes) == ("forward", 168 * MIB)
    assert done.peak_module == "a"


def test_blocks_are_counted_as_the_allocator_makes_them() -> None:
    timeline = Timeline(
        (block(10.6), BlockInfo(100, 0, "input", "")), (1, 2), (Mark(0, "load", 0),)
    )
    done = replay(timeline, 1, config=PLAIN, workspace_bytes=0)
    # 10.6 in a segment of 12, more than 1 MiB of which is split off; 100 bytes are 512.
    rounded = -(-int(10.6 * MIB) // 512) * 512
    assert done.components == {"activation": rounded, "input": 512}
    assert done.peak_allocated_bytes == rounded + 512
    assert done.peak_reserved_bytes == 14 * MIB


def test_where_it_runs_out() -> None:
    done = replay(STEP, 2, config=PLAIN, workspace_bytes=8 * MIB, capacity_bytes=110 * MIB)
    assert done.death == Death(
        event=5,
        phase="backward",
        step=1,
        module="b.c",
        requested_bytes=8 * MIB,
        free_bytes=6 * MIB,
        cached_bytes=0,
    )
    assert [phase.name for phase in done.phases] == ["load", "forward", "backward"]
    assert done.peak_allocated_bytes == 104 * MIB


def test_events_before_the_first_mark_are_a_phase_too() -> None:
    timeline = Timeline((block(2), block(3)), (1, 2), (Mark(1, "load", 0),))
    done = replay(timeline, 1, config=PLAIN, workspace_bytes=0)
    assert [phase.name for phase in done.phases] == ["other", "load"]
    assert replay(Timeline((), (), ()), 1, config=PLAIN, workspace_bytes=0).peak_event == -1


FRAGMENTED = Timeline(
    blocks=(block(9), block(1.5), block(9), block(1.5), block(9), block(9), block(30)),
    events=(1, 2, 3, 4, 5, 6, -1, -3, -5, -6, 7),
    marks=(Mark(0, "forward", 1),),
)


def test_expandable_segments_save_memory() -> None:
    # Without: two segments of 20 with 1.5 in use each, and 30. With: 60 in one row.
    plain, expandable = (
        replay(FRAGMENTED, 1, config=config, workspace_bytes=0) for config in (PLAIN, EXPANDABLE)
    )
    assert plain.peak_reserved_bytes == 70 * MIB
    assert expandable.peak_reserved_bytes == 60 * MIB


def test_expandable_segments_save_a_run() -> None:
    plain, expandable = (
        replay(FRAGMENTED, 1, config=config, workspace_bytes=0, capacity_bytes=66 * MIB)
        for config in (PLAIN, EXPANDABLE)
    )
    assert plain.death is not None
    assert plain.death.cached_bytes == 37 * MIB
    assert expandable.death is None
    assert expandable.peak_reserved_bytes == 60 * MIB


def test_the_map_at_an_event() -> None:
    found = segment_map(STEP, 2, 6, config=PLAIN, workspace_bytes=8 * MIB)
    text = [
        " ".join(f"{b.size_bytes // MIB} {b.category or b.state}" for b in s.blocks)
        for s in found.segments
    ]
    assert text == ["40 parameter", "40 gradient", "24 activation", "8 unknown 12 temporary"]
    assert {s.pool for s in found.segments} == {"large"}


@pytest.mark.parametrize("expandable", [False, True])
def test_a_random_timeline_agrees_with_sums(expandable: bool) -> None:
    chance = random.Random(1)
    blocks: list[BlockInfo] = []
    events: list[int] = []
    live: list[int] = []
    for _ in range(3000):
        if live and chance.random() < 0.5:
            events.append(-live.pop(chance.randrange(len(live))))
        else:
            size = 512 * chance.choice([1, 100, 3000, 30_000])
            blocks.append(BlockInfo(size, 512, chance.choice(["input", "activation"]), ""))
            live.append(len(blocks))
            events.append(len(blocks))
    marks = tuple(Mark(event, "forward", event) for event in range(0, 3000, 500))
    timeline = Timeline(tuple(blocks), tuple(events), marks)
    config = AllocatorConfig(expandable_segments=expandable)
    done = replay(timeline, 3, config=config, workspace_bytes=0)
    level = peak = 0
    for event in events:
        size = blocks[abs(event) - 1].size_bytes(3)
        level += size if event > 0 else -size
        peak = max(peak, level)
    if expandable:  # every block is split to its size, so that sums are exact
        assert done.peak_allocated_bytes == peak
        assert done.phases[-1].after_bytes == level
    assert peak <= done.peak_allocated_bytes <= peak * 1.02
    assert sum(done.components.values()) == done.peak_allocated_bytes
    assert max(phase.peak_bytes for phase in done.phases) == done.peak_allocated_bytes
    found = segment_map(timeline, 3, done.reserved_peak_event, config=config, workspace_bytes=0)
    assert totals(found.segments).total_bytes == done.peak_reserved_bytes
    assert totals(found.segments).allocated_bytes == done.allocated_at_reserved_peak_bytes


def test_streams_have_memory_of_their_own() -> None:
    blocks = (
        BlockInfo(40 * MIB, 0, "temporary", ""),
        BlockInfo(40 * MIB, 0, "temporary", "", stream=1),
    )
    made = Timeline(blocks, (1, -1, 2, -2), (Mark(0, "forward", 1), Mark(4, "end", 1)))
    done = replay(made, 1, config=PLAIN, workspace_bytes=0)
    assert (done.peak_allocated_bytes, done.peak_reserved_bytes) == (40 * MIB, 80 * MIB)
    one = made.map_blocks(lambda block: replace(block, stream=0))
    assert replay(one, 1, config=PLAIN, workspace_bytes=0).peak_reserved_bytes == 40 * MIB


AWAITED = Timeline(
    tuple(BlockInfo(40 * MIB, 0, "parameter", "", stream=1, awaited=True) for _ in range(4)),
    (1, -1, 2, -2, 3, -3, 4, -4),
    (Mark(0, "forward", 1), Mark(8, "end", 1)),
)
"""Layers gathered one after the other, released while the device still works on them."""


def test_of_awaited_blocks_the_oldest_is_waited_for() -> None:
    """Two segments: the third layer waits for the first, the fourth for the second."""
    done = replay(AWAITED, 1, config=PLAIN, workspace_bytes=0)
    assert (done.peak_allocated_bytes, done.peak_reserved_bytes) == (40 * MIB, 80 * MIB)


def test_awaited_blocks_are_there_again_where_memory_is_short_or_the_loss_was_read() -> None:
    done = replay(AWAITED, 1, config=PLAIN, workspace_bytes=0, capacity_bytes=50 * MIB)
    assert (done.death, done.peak_reserved_bytes) == (None, 40 * MIB)
    marks = (Mark(0, "forward", 1), Mark(2, "forward", 2), Mark(8, "end", 2))
    again = replace(AWAITED, events=AWAITED.events[:4], marks=marks[:2])
    done = replay(again, 1, config=PLAIN, workspace_bytes=0)
    assert done.peak_reserved_bytes == 40 * MIB
