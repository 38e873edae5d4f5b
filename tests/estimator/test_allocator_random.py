"""Random programs: the replayed allocator against a slow plain one, and what always holds."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.estimator.naive_allocator import NaiveAllocator, NoMemory
from vramtop.estimator.allocator import CachingAllocator, OutOfMemory
from vramtop.estimator.workload import AllocatorConfig

MIB = 1 << 20
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "expandable": {"expandable": True},
    "max split": {"max_split": 32 * MIB},
    "max split, expandable": {"max_split": 32 * MIB, "expandable": True},
    "rounded": {"divisions": 4},
    "rounded, expandable": {"divisions": 8, "expandable": True},
}
SIZES = st.one_of(
    st.integers(0, 4096),
    st.integers(1, MIB),
    st.integers(MIB, 12 * MIB),
    st.integers(10 * MIB, 80 * MIB),
    st.sampled_from([512, MIB, MIB + 1, 10 * MIB - 1, 10 * MIB, 20 * MIB, 32 * MIB, 52 * MIB]),
)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("malloc"), SIZES, st.integers(0, 1)),
        st.tuples(st.just("free"), st.integers(0, 10_000), st.just(0)),
        st.tuples(st.just("empty"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


def both(setting: str, capacity: int | None) -> tuple[CachingAllocator, NaiveAllocator]:
    options = SETTINGS[setting]
    config = AllocatorConfig(
        expandable_segments=options.get("expandable", False),
        max_split_bytes=options.get("max_split"),
        roundup_power2_divisions=options.get("divisions", 0),
    )
    return CachingAllocator(config, capacity), NaiveAllocator(**options, capacity=capacity)


def layout(allocator: CachingAllocator) -> list[Any]:
    return [
        (
            segment.address,
            segment.stream,
            segment.pool == "small",
            segment.total_bytes,
            [(b.address, b.size_bytes, b.requested_bytes) for b in segment.blocks],
        )
        for segment in allocator.segments()
    ]


def step(ours: CachingAllocator, naive: NaiveAllocator, live: list[int], operation: Any) -> None:
    kind, value, stream = operation
    if kind == "malloc":
        address = failed = None
        try:
            address = naive.malloc(value, stream)
        except NoMemory:
            failed = True
        if failed:
            with pytest.raises(OutOfMemory):
                ours.malloc(value, stream)
        else:
            assert ours.malloc(value, stream) == address
            assert address is not None
            live.append(address)
    elif kind == "free" and live:
        address = live.pop(value % len(live))
        ours.free(address)
        naive.free(address)
    elif kind == "empty":
        ours.empty_cache()
        naive.empty_cache()


def compare(ours: CachingAllocator, naive: NaiveAllocator) -> None:
    assert layout(ours) == naive.layout()
    assert ours.allocated_bytes == naive.allocated
    assert ours.reserved_bytes == naive.reserved
    assert (ours.alloc_retries, ours.ooms) == (naive.retries, naive.ooms)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("capacity", [None, 200 * MIB])
@settings(max_examples=25, deadline=None)
@given(operations=OPERATIONS)
def test_every_address_and_layout_is_that_of_the_plain_one(
    setting: str, capacity: int | None, operations: list[Any]
) -> None:
    ours, naive = both(setting, capacity)
    live: list[int] = []
    for operation in operations:
        step(ours, naive, live, operation)
        compare(ours, naive)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("capacity", [None, 600 * MIB])
def test_a_long_program_ends_as_with_the_plain_one(setting: str, capacity: int | None) -> None:
    chance = random.Random(f"{setting} {capacity}")
    ours, naive = both(setting, capacity)
    live: list[int] = []
    for number in range(1500):
        kind = "free" if chance.random() < (0.3 if len(live) < 60 else 0.55) else "malloc"
        if chance.random() < 0.003:
            kind = "empty"
        top = chance.choice([2000, MIB, 4 * MIB, 12 * MIB, 60 * MIB])
        value = chance.randrange(10_000) if kind == "free" else chance.randint(1, top)
        step(ours, naive, live, (kind, value, int(chance.random() < 0.1)))
        if number % 50 == 0:
            compare(ours, naive)
    compare(ours, naive)
    for address in live:
        ours.free(address)
    ours.empty_cache()
    assert ours.segments() == []
    assert (ours.allocated_bytes, ours.reserved_bytes, ours.segment_count) == (0, 0, 0)


@pytest.mark.parametrize("setting", SETTINGS)
@settings(max_examples=25, deadline=None)
@given(operations=OPERATIONS)
def test_what_always_holds(setting: str, operations: list[Any]) -> None:
    ours, _ = both(setting, 300 * MIB)
    live: dict[int, int] = {}
    for kind, value, stream in operations:
        if kind == "malloc":
            try:
                address = ours.malloc(value, stream)
            except OutOfMemory as raised:
                error = raised
            else:
                error = None
            if error is not None:
                assert error.requested_bytes == value
                assert error.segment_bytes > error.free_bytes >= 0
                continue
            assert (address == 0) == (value == 0)
            if address:
                assert address not in live
                live[address] = value
        elif kind == "free" and live:
            address = list(live)[value % len(live)]
            del live[address]
            ours.free(address)
        elif kind == "empty":
            ours.empty_cache()
        check(ours, live)


def check(ours: CachingAllocator, live: dict[int, int]) -> None:
    segments = ours.segments()
    end = 0
    seen = {}
    for segment in segments:
        assert segment.address >= end, "segments do not overlap"
        end = segment.address
        for number, block in enumerate(segment.blocks):
            assert block.address == end, "blocks follow each other without a gap"
            assert block.size_bytes >= 512
            assert block.size_bytes >= block.requested_bytes
            end += block.size_bytes
            if block.allocated:
                seen[block.address] = block.requested_bytes
            elif number:
                assert segment.blocks[number - 1].allocated, "free neighbours are merged"
        assert end == segment.address + segment.total_bytes
    assert seen == live
    used = [b for s in segments for b in s.blocks if b.allocated]
    assert ours.allocated_bytes == ours.active_bytes == sum(b.size_bytes for b in used)
    assert ours.requested_bytes == sum(live.values())
    assert ours.reserved_bytes == sum(s.total_bytes for s in segments) <= 300 * MIB
    assert ours.peak_allocated_bytes >= ours.allocated_bytes
    assert ours.peak_reserved_bytes >= ours.reserved_bytes
    assert ours.inactive_split_bytes == sum(
        b.size_bytes
        for s in segments
        if not s.expandable and len(s.blocks) > 1
        for b in s.blocks
        if not b.allocated
    )
