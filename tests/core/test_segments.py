"""The allocator's map: maps worked out by hand, and a brute force that plays the allocator."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vramtop.core.memory import Block, Segment, SegmentMap
from vramtop.core.segments import (
    SegmentTotals,
    fits,
    groups,
    releasable_bytes,
    totals,
    warning,
    would_fail,
)

MIB = 1 << 20
GIB = 1 << 30


def segment(
    text: str, *, pool: str = "large", stream: int = 0, expandable: bool = False
) -> Segment:
    """ "8a 4f 2p": 8 MiB allocated, 4 free, 2 pending."""
    states = {"a": "allocated", "f": "free", "p": "pending"}
    blocks = tuple(
        Block(int(float(part[:-1]) * MIB), states[part[-1]], "activation" if "a" in part else None)
        for part in text.split()
    )
    total = sum(block.size_bytes for block in blocks)
    return Segment(total, pool, stream, expandable, blocks)


def the_map(*segments: Segment) -> SegmentMap:
    return SegmentMap(1.0, segments)


def test_totals_by_hand() -> None:
    found = totals([segment("8a 4f 2p 6f"), segment("20f"), segment("3p 1f"), segment("2a")])
    assert found == SegmentTotals(
        segments=4,
        total_bytes=46 * MIB,
        allocated_bytes=10 * MIB,
        pending_bytes=5 * MIB,
        cached_bytes=20 * MIB,
        fragmentation_bytes=11 * MIB,
        largest_free_bytes=20 * MIB,
    )
    assert found.free_bytes == 31 * MIB
    assert totals([]) == SegmentTotals()


def test_groups_are_by_pool_and_stream_the_largest_first() -> None:
    found = groups(
        the_map(
            segment("1a 1f", pool="small"),
            segment("20f"),
            segment("40a", stream=3),
            segment("30a"),
            segment("16a", pool="graph 1"),
        )
    )
    assert [(g.pool, g.stream, g.totals.total_bytes // MIB) for g in found] == [
        ("large", 0, 50),
        ("large", 3, 40),
        ("graph 1", 0, 16),
        ("small", 0, 2),
    ]
    assert [s.total_bytes // MIB for s in found[0].segments] == [30, 20]


@pytest.mark.parametrize(
    ("request_mib", "stream", "expected"),
    [
        (12, None, True),
        (12.1, None, False),  # 12 MiB are free on stream 0, 40 in a graph's pool
        (0.5, None, False),  # small requests are served by the small pool, which is full
        (1, None, False),
        (1.01, None, True),
        (12, 0, True),
        (12, 1, False),
        (2, 1, True),
        (0, None, False),  # no less than 512 bytes
    ],
)
def test_what_fits_by_hand(request_mib: float, stream: int | None, expected: bool) -> None:
    shown = the_map(
        segment("8a 12f"),
        segment("18a 2f", stream=1),
        segment("10a 30p"),
        segment("40f", pool="graph 1"),
        segment("1.5a 0.5p", pool="small"),
    )
    assert fits(shown, int(request_mib * MIB), stream) is expected


def test_what_could_be_given_back_by_hand() -> None:
    assert releasable_bytes(the_map(segment("20f"), segment("4p 16f"), segment("1a 19f"))) == (
        40 * MIB  # also what is pending: the allocator waits for it
    )
    assert releasable_bytes(the_map(segment("20f", pool="graph 2"))) == 0
    # Pages of 20 MiB: of the hole from 8 to 68 MiB the pages from 20 to 60.
    assert releasable_bytes(the_map(segment("8a 60f 12a", expandable=True))) == 40 * MIB
    assert releasable_bytes(the_map(segment("8a 11f 1a", expandable=True))) == 0
    assert releasable_bytes(the_map(segment("8a 32f", expandable=True))) == 20 * MIB
    # Pages of 2 MiB in the small pool.
    small = segment("1a 4f 1a", pool="small", expandable=True)
    assert releasable_bytes(the_map(small)) == 2 * MIB


def test_what_would_fail_by_hand() -> None:
    shown = the_map(segment("30f"), segment("10a 50f"))
    assert not would_fail(shown, 50 * MIB)
    assert would_fail(shown, 51 * MIB)  # 30 can be given back, 52 are needed
    assert not would_fail(shown, 51 * MIB, device_free_bytes=22 * MIB)
    assert would_fail(shown, 51 * MIB, device_free_bytes=21 * MIB)
    # A small request needs a small segment of 2 MiB: there is none with room.
    assert not would_fail(shown, 1000)
    assert would_fail(the_map(segment("10a 50f")), 1000)
    # 5 MiB are served from a segment of 20.
    shown = the_map(segment("100a 4f"))
    assert would_fail(shown, 5 * MIB, device_free_bytes=19 * MIB)
    assert not would_fail(shown, 5 * MIB, device_free_bytes=20 * MIB)


def test_the_warning_by_hand() -> None:
    holes = [segment("10a 300f") for _ in range(7)]
    shown = the_map(*holes)
    assert warning(shown) == "a 512 MiB request would need new memory although 2.05 GiB are cached"
    assert warning(shown, 10 * GIB) == warning(shown)
    assert warning(shown, 100 * MIB) == (
        "a 512 MiB request would fail although 2.05 GiB are cached"
    )
    # With 600 MiB left on the device only the next larger one fails.
    assert warning(shown, 600 * MIB) == "a 1 GiB request would fail although 2.05 GiB are cached"
    eight = the_map(*[segment("1a 6f"), segment("1a 6f")])
    assert warning(eight) == "an 8 MiB request would need new memory although 12.0 MiB are cached"


@pytest.mark.parametrize(
    "shown",
    [
        the_map(),
        the_map(segment("10a")),
        the_map(segment("10a 1000f")),
        the_map(segment("10a 300f"), segment("200f")),  # 256 MiB fit, 512 are not there
        the_map(segment("1a 1f", pool="small")),
        the_map(*[segment("1a 500f", pool="graph 1")] * 3),
        the_map(*[segment("1a 500p")] * 3),
    ],
)
def test_nothing_to_warn_of(shown: SegmentMap) -> None:
    assert warning(shown) is None


# A brute force: pages of 512 KiB, one character each, searched and released as strings.

PAGE = MIB // 2
_LETTER = {"allocated": "a", "pending": "p", "free": "f"}
_state = st.sampled_from(["allocated", "pending", "free"])


@st.composite
def _segments(draw: st.DrawFn, expandable: bool) -> Segment:
    pool = draw(st.sampled_from(["small", "large", "large", "graph 1"]))
    page = 2 * MIB if pool == "small" else 20 * MIB
    room = draw(st.integers(1, 3)) * page // PAGE
    blocks: list[Block] = []
    while room:
        size = draw(st.integers(1, room))
        state = draw(_state)
        if blocks and blocks[-1].state == "free" and state == "free":
            state = "allocated"  # the allocator never leaves two free neighbours
        blocks.append(Block(size * PAGE, state))
        room -= size
    total = sum(block.size_bytes for block in blocks)
    return Segment(total, pool, draw(st.integers(0, 1)), expandable, tuple(blocks))


_maps = st.booleans().flatmap(
    lambda expandable: st.lists(_segments(expandable), max_size=5).map(lambda s: the_map(*s))
)


def _pages(segment: Segment) -> str:
    return "".join(
        _LETTER[block.state] * (block.size_bytes // PAGE) + "|" for block in segment.blocks
    )


def _served(shown: SegmentMap, pages: int, small: bool, stream: int | None) -> bool:
    """A run of free pages that no block's end interrupts."""
    return any(
        "f" * pages in _pages(segment)
        for segment in shown.segments
        if segment.pool == ("small" if small else "large")
        if stream is None or segment.stream == stream
    )


def _given_back(shown: SegmentMap) -> int:
    """Pages that go back to the driver, page by page."""
    count = 0
    for segment in shown.segments:
        if segment.pool.startswith("graph"):
            continue
        flat = _pages(segment).replace("|", "")
        unit = len(flat)
        if segment.expandable:
            unit = 4 if segment.pool == "small" else 40
        for start in range(0, len(flat), unit):
            if "a" not in flat[start : start + unit]:
                count += unit
    return count


@settings(max_examples=300, deadline=None)
@given(
    shown=_maps,
    request=st.integers(1, 140).map(lambda half: half * PAGE),
    device_free=st.integers(0, 60).map(lambda half: half * PAGE),
    stream=st.sampled_from([None, 0, 1]),
)
def test_agrees_with_a_brute_force(
    shown: SegmentMap, request: int, device_free: int, stream: int | None
) -> None:
    small = request <= MIB
    served = _served(shown, request // PAGE, small, stream)
    assert fits(shown, request, stream) is served
    assert fits(shown, request - 511, stream) is served
    assert releasable_bytes(shown) == _given_back(shown) * PAGE
    if small:
        needed = 2.0
    elif any(segment.expandable for segment in shown.segments):
        needed = math.ceil(request / MIB / 20) * 20
    elif request < 10 * MIB:
        needed = 20.0
    else:
        needed = math.ceil(request / MIB / 2) * 2
    left = _given_back(shown) / 2 + device_free / MIB
    assert would_fail(shown, request, device_free, stream) is (not served and needed > left)
    letters = "".join(_pages(s) for s in shown.segments)
    found = totals(shown.segments)
    assert found.allocated_bytes == letters.count("a") * PAGE
    assert found.pending_bytes == letters.count("p") * PAGE
    assert found.free_bytes == letters.count("f") * PAGE
    in_use = [_pages(s).count("f") for s in shown.segments if {"a", "p"} & set(_pages(s))]
    assert found.fragmentation_bytes == sum(in_use) * PAGE
    assert found.total_bytes == len(letters.replace("|", "")) * PAGE
    assert (
        found.largest_free_bytes
        == max(
            (
                len(run)
                for run in letters.replace("a", " ").replace("p", " ").replace("|", " ").split()
            ),
            default=0,
        )
        * PAGE
    )
    said = warning(shown, device_free)
    if said is not None:
        number, unit = said.split()[1:3]
        named = int(number) * (GIB if unit == "GiB" else MIB)
        assert not _served(shown, named // PAGE, small=False, stream=None)
        common = [_pages(s).count("f") for s in shown.segments if s.pool != "graph 1"]
        assert named < sum(common) * PAGE
        assert ("fail" in said) is would_fail(shown, named, device_free)
