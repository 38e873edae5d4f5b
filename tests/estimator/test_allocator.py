"""The caching allocator's rules, one by one, with layouts by hand from the C++ source."""

from __future__ import annotations

import pytest

from vramtop.estimator.allocator import CachingAllocator, OutOfMemory
from vramtop.estimator.workload import AllocatorConfig

KIB, MIB = 1 << 10, 1 << 20
EXPANDABLE = AllocatorConfig(expandable_segments=True)


def layout(allocator: CachingAllocator) -> list[str]:
    """Each segment as "pool total: 3a 5f", sizes in KiB, a allocated and f free."""
    return [
        f"{segment.pool} {segment.total_bytes / KIB:.8g}: "
        + " ".join(f"{b.size_bytes / KIB:.8g}{'af'[not b.allocated]}" for b in segment.blocks)
        for segment in allocator.segments()
    ]


def fill(allocator: CachingAllocator, *mebibytes: float) -> list[int]:
    return [allocator.malloc(int(size * MIB)) for size in mebibytes]


@pytest.mark.parametrize(
    ("request_bytes", "block_bytes"),
    [(1, 512), (511, 512), (512, 512), (513, 1024), (1024, 1024), (1025, 1536)],
)
def test_blocks_are_multiples_of_512_bytes(request_bytes: int, block_bytes: int) -> None:
    allocator = CachingAllocator()
    allocator.malloc(request_bytes)
    assert allocator.allocated_bytes == allocator.active_bytes == block_bytes
    assert allocator.requested_bytes == request_bytes


def test_a_request_of_nothing_gets_nothing() -> None:
    allocator = CachingAllocator()
    assert allocator.malloc(0) == 0
    allocator.free(0)
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (0, 0)
    assert allocator.segments() == []


def test_what_is_not_allocated_cannot_be_freed() -> None:
    allocator = CachingAllocator()
    address = allocator.malloc(1)
    allocator.free(address)
    with pytest.raises(KeyError):
        allocator.free(address)


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (1, "small 2048: 0.5a 2047.5f"),
        (MIB, "small 2048: 1024a 1024f"),
        # A byte more is a large request: a 20 MiB segment, split, as more than 1 MiB remains.
        (MIB + 1, "large 20480: 1024.5a 19455.5f"),
        (10 * MIB - 1024, "large 20480: 10239a 10241f"),
        # From 10 MiB on a segment of its own, in multiples of 2 MiB. What remains is no more than
        # 1 MiB, so it goes with the block, or more, so it is split off.
        (10 * MIB, "large 10240: 10240a"),
        (11 * MIB, "large 12288: 12288a"),
        (11 * MIB - 512, "large 12288: 11263.5a 1024.5f"),
        (100 * MIB + 1, "large 104448: 102400.5a 2047.5f"),
    ],
)
def test_segments_by_the_size_of_a_request(request_bytes: int, expected: str) -> None:
    allocator = CachingAllocator()
    allocator.malloc(request_bytes)
    assert layout(allocator) == [expected]
    assert allocator.segment_count == 1


def test_the_remainder_that_is_not_split_off_counts_as_allocated() -> None:
    allocator = CachingAllocator()
    address = allocator.malloc(11 * MIB)
    assert allocator.block_bytes(address) == allocator.allocated_bytes == 12 * MIB
    assert allocator.requested_bytes == 11 * MIB
    assert allocator.inactive_split_bytes == 0


def test_small_requests_share_a_segment_and_large_ones_keep_away() -> None:
    allocator = CachingAllocator()
    fill(allocator, 0.5, 0.5, 1, 0.5, 4)
    assert layout(allocator) == [
        "small 2048: 512a 512a 1024a",
        "small 2048: 512a 1536f",
        "large 20480: 4096a 16384f",
    ]
    assert allocator.reserved_bytes == 24 * MIB
    assert allocator.inactive_split_bytes == 17.5 * MIB


def test_a_free_large_segment_does_not_serve_small_requests() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.malloc(20 * MIB))
    allocator.malloc(1024)
    assert layout(allocator) == ["large 20480: 20480f", "small 2048: 1a 2047f"]


def test_best_fit_is_the_smallest_block_that_is_large_enough() -> None:
    allocator = CachingAllocator()
    a, b, c = fill(allocator, 40, 12, 20)
    for address in (a, b, c):
        allocator.free(address)
    assert allocator.malloc(14 * MIB) == c
    assert allocator.malloc(12 * MIB) == b
    assert allocator.malloc(21 * MIB) == a
    assert layout(allocator) == [
        "large 40960: 21504a 19456f",
        "large 12288: 12288a",
        "large 20480: 14336a 6144f",
    ]


def test_of_equal_blocks_the_older_segment_then_the_lower_address_is_taken() -> None:
    allocator = CachingAllocator()
    first, second = fill(allocator, 12, 12)
    allocator.free(second)
    allocator.free(first)
    assert allocator.malloc(12 * MIB) == first
    allocator = CachingAllocator()
    holes = fill(allocator, 2, 2, 2, 2, 2)
    for address in (holes[3], holes[1]):
        allocator.free(address)
    assert allocator.malloc(2 * MIB) == holes[1]


def test_a_large_block_is_not_split_for_a_remainder_of_1_mib_a_small_one_is_for_512_bytes() -> None:
    allocator = CachingAllocator()
    (large,) = fill(allocator, 20)
    allocator.free(large)
    fill(allocator, 19)
    assert layout(allocator) == ["large 20480: 20480a"]
    allocator = CachingAllocator()
    keep = fill(allocator, 1, 1)
    allocator.free(keep[0])
    allocator.malloc(MIB - 512)
    assert layout(allocator) == ["small 2048: 1023.5a 0.5f 1024a"]


def test_freed_neighbours_merge_on_both_sides() -> None:
    allocator = CachingAllocator()
    a, b, c, d = fill(allocator, 4, 4, 4, 4)
    allocator.free(a)
    allocator.free(c)
    assert layout(allocator) == ["large 20480: 4096f 4096a 4096f 4096a 4096f"]
    assert allocator.inactive_split_bytes == 12 * MIB
    allocator.free(b)
    assert layout(allocator) == ["large 20480: 12288f 4096a 4096f"]
    allocator.free(d)
    assert layout(allocator) == ["large 20480: 20480f"]
    assert allocator.inactive_split_bytes == 0
    assert allocator.reserved_bytes == 20 * MIB


def test_streams_have_pools_of_their_own() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.malloc(20 * MIB, stream=0))
    allocator.malloc(20 * MIB, stream=7)
    assert layout(allocator) == ["large 20480: 20480f", "large 20480: 20480a"]
    assert [segment.stream for segment in allocator.segments()] == [0, 7]


def test_empty_cache_gives_back_whole_segments_only() -> None:
    allocator = CachingAllocator()
    a, _, c, d = fill(allocator, 12, 2, 2, 0.25)
    for address in (a, c, d):
        allocator.free(address)
    assert allocator.reserved_bytes == 34 * MIB
    allocator.empty_cache()
    assert layout(allocator) == ["large 20480: 2048a 18432f"]
    assert (allocator.reserved_bytes, allocator.segment_count) == (20 * MIB, 1)
    assert allocator.peak_reserved_bytes == 34 * MIB
    allocator.reset_peaks()
    assert (allocator.peak_reserved_bytes, allocator.peak_allocated_bytes) == (20 * MIB, 2 * MIB)


def test_without_room_cached_segments_go_back_and_the_request_is_tried_again() -> None:
    allocator = CachingAllocator(capacity_bytes=64 * MIB)
    a, b = fill(allocator, 20, 30)
    allocator.free(a)
    allocator.malloc(32 * MIB)  # 20 cached + 30 + 32 do not fit, 30 + 32 do
    assert layout(allocator) == ["large 30720: 30720a", "large 32768: 32768a"]
    assert (allocator.alloc_retries, allocator.ooms) == (1, 0)
    allocator.free(b)


def test_out_of_memory_says_what_was_asked_and_what_is_left() -> None:
    allocator = CachingAllocator(capacity_bytes=64 * MIB)
    fill(allocator, 2, 30)
    with pytest.raises(OutOfMemory) as caught:
        allocator.malloc(24 * MIB + 1)
    error = caught.value
    assert error.requested_bytes == 24 * MIB + 1
    assert error.segment_bytes == 26 * MIB
    assert error.free_bytes == 14 * MIB  # 64 - 20 - 30
    assert error.cached_bytes == 18 * MIB
    assert (allocator.alloc_retries, allocator.ooms) == (1, 1)
    allocator.malloc(18 * MIB)  # the hole still serves what it can
    assert allocator.alloc_retries == 1


@pytest.mark.parametrize(
    ("divisions", "request_bytes", "block_bytes"),
    [
        (0, 1200 * KIB, 1200 * KIB),
        (1, 1200 * KIB, 1200 * KIB),
        (4, 1200, 1536),  # not above 512 · 4: multiples of 512
        (4, 2048, 2048),
        (4, 2049, 2560),  # 2048, 2560, 3072, 3584, 4096
        (4, 1200 * KIB, 1280 * KIB),  # 1024, 1280, ...
        (4, 1024 * KIB, 1024 * KIB),
        (2, 1200 * KIB, 1536 * KIB),
        (8, 1200 * KIB, 1280 * KIB),  # 1024, 1152, 1280, ...
        (4, 7 * MIB + 1, 8 * MIB),
    ],
)
def test_roundup_power2_divisions(divisions: int, request_bytes: int, block_bytes: int) -> None:
    allocator = CachingAllocator(AllocatorConfig(roundup_power2_divisions=divisions))
    assert allocator.block_bytes(allocator.malloc(request_bytes)) == block_bytes


def oversize(limit_mib: int) -> AllocatorConfig:
    return AllocatorConfig(max_split_bytes=limit_mib * MIB)


def test_blocks_from_max_split_size_on_are_neither_split_nor_given_to_smaller_requests() -> None:
    allocator = CachingAllocator(oversize(32))
    (big,) = fill(allocator, 40)
    allocator.free(big)
    fill(allocator, 30)
    # The free 40 MiB are oversize, so 30 MiB get a segment of their own.
    assert layout(allocator) == ["large 40960: 40960f", "large 30720: 30720a"]
    assert fill(allocator, 36) == [big]  # within 20 MiB of it, and not split
    assert layout(allocator)[0] == "large 40960: 40960a"


def test_an_oversize_block_serves_only_requests_less_than_20_mib_smaller() -> None:
    allocator = CachingAllocator(oversize(32))
    (big,) = fill(allocator, 60)
    allocator.free(big)
    fill(allocator, 40)  # 60 >= 40 + 20
    assert layout(allocator) == ["large 61440: 61440f", "large 40960: 40960a"]
    assert fill(allocator, 41) == [big]


def test_only_as_many_oversize_blocks_go_back_as_a_request_needs() -> None:
    allocator = CachingAllocator(oversize(32), capacity_bytes=200 * MIB)
    a, b, c, d = fill(allocator, 36, 40, 44, 20)
    for address in (a, b, c, d):
        allocator.free(address)
    fill(allocator, 70)
    # 140 + 70 > 200. No block has 70 MiB, so the largest go first: 44, then 40; then it fits
    # without the rest being given back, and no retry is counted.
    assert layout(allocator) == [
        "large 36864: 36864f",
        "large 20480: 20480f",
        "large 71680: 71680a",
    ]
    assert allocator.alloc_retries == 0


def test_the_one_oversize_block_that_is_large_enough_goes_back_first() -> None:
    allocator = CachingAllocator(oversize(32), capacity_bytes=160 * MIB)
    a, b = fill(allocator, 40, 100)
    allocator.free(a)
    allocator.free(b)
    fill(allocator, 60)  # 100 >= 60 + 20: not given, but released
    assert layout(allocator) == ["large 40960: 40960f", "large 61440: 61440a"]


def test_expandable_segments_map_pages_of_20_mib_and_of_2_mib() -> None:
    allocator = CachingAllocator(EXPANDABLE)
    fill(allocator, 11, 0.5)
    assert sorted(layout(allocator)) == ["large 20480: 11264a 9216f", "small 2048: 512a 1536f"]
    assert allocator.reserved_bytes == 22 * MIB
    assert allocator.segment_count == 0
    assert allocator.inactive_split_bytes == 0
    # 30 MiB: 9 are free at the end, 21 more need two pages of 20.
    fill(allocator, 30)
    assert "large 61440: 11264a 30720a 19456f" in layout(allocator)
    # A remainder of 512 bytes is split off, in the large pool too.
    allocator.malloc(19 * MIB - 512)
    assert "large 61440: 11264a 30720a 19455.5a 0.5f" in layout(allocator)


def test_an_expandable_hole_is_preferred_to_the_end_that_can_grow() -> None:
    allocator = CachingAllocator(EXPANDABLE)
    a, _, _ = fill(allocator, 12, 4, 16)
    allocator.free(a)  # hole of 12 at the front, 8 at the end of 40
    # The end is smaller, but it counts with all the addresses it can grow into.
    assert fill(allocator, 6) == [a]
    assert layout(allocator) == ["large 40960: 6144a 6144f 4096a 16384a 8192f"]


def test_expandable_segments_give_back_whole_free_pages() -> None:
    allocator = CachingAllocator(EXPANDABLE)
    _, b, _ = fill(allocator, 10, 60, 5)
    allocator.free(b)
    assert layout(allocator) == ["large 81920: 10240a 61440f 5120a 5120f"]
    allocator.empty_cache()
    # Free are 10 to 70: of the pages 20 to 40 and 40 to 60 nothing is in use.
    assert layout(allocator) == ["large 20480: 10240a 10240f", "large 20480: 10240f 5120a 5120f"]
    assert allocator.reserved_bytes == 40 * MIB


def test_pages_given_back_are_mapped_again_at_the_lowest_addresses() -> None:
    allocator = CachingAllocator(EXPANDABLE)
    _, b, _ = fill(allocator, 10, 60, 5)
    allocator.free(b)
    allocator.empty_cache()
    # 35 MiB: 10 free before the gap, then two pages of it; the gap closes and all is one again.
    assert fill(allocator, 35) == [b]
    assert layout(allocator) == ["large 81920: 10240a 35840a 25600f 5120a 5120f"]
    assert allocator.reserved_bytes == 80 * MIB


def test_an_expandable_segment_that_is_empty_goes_altogether() -> None:
    allocator = CachingAllocator(EXPANDABLE)
    for address in fill(allocator, 10, 0.1):
        allocator.free(address)
    allocator.empty_cache()
    assert layout(allocator) == []
    assert allocator.reserved_bytes == 0


def test_an_expandable_segment_frees_its_pages_before_it_runs_out() -> None:
    allocator = CachingAllocator(EXPANDABLE, capacity_bytes=100 * MIB)
    a, _ = fill(allocator, 40, 10)  # 60 mapped
    allocator.free(a)
    allocator.malloc(512)  # 62 mapped
    # 45 MiB do not fit the hole of 40. The end, 10 free, has to grow by 35, two pages: 102 > 100.
    # The hole's two pages go back; then it fits.
    fill(allocator, 45)
    assert allocator.alloc_retries == 1
    assert layout(allocator)[0] == "large 61440: 10240a 46080a 5120f"
    assert allocator.reserved_bytes == 62 * MIB


def test_no_expandable_segment_has_more_addresses_than_nine_eighths_of_the_device() -> None:
    allocator = CachingAllocator(EXPANDABLE, capacity_bytes=100 * MIB)
    with pytest.raises(OutOfMemory):
        allocator.malloc(121 * MIB)  # 112.5 in whole pages of 20 are 120
    assert allocator.segments() == []
    a, _ = fill(allocator, 60, 10)
    allocator.free(a)
    allocator.empty_cache()
    # Of 120 addresses 60 are free before, 50 behind what is used: 51 get a segment of their own.
    fill(allocator, 61)
    assert layout(allocator) == ["large 20480: 10240a 10240f", "large 81920: 62464a 19456f"]


def test_what_fragmentation_kills_expandable_segments_save() -> None:
    def program(config: AllocatorConfig) -> CachingAllocator:
        allocator = CachingAllocator(config, capacity_bytes=66 * MIB)
        a, _, b, _, c, d = fill(allocator, 9, 1.5, 9, 1.5, 9, 9)
        for address in (a, b, c, d):
            allocator.free(address)
        allocator.malloc(30 * MIB)
        return allocator

    # Two segments of 20, each with 1.5 in use and so not to be given back: 40 + 30 > 66.
    with pytest.raises(OutOfMemory) as caught:
        program(AllocatorConfig())
    assert (caught.value.free_bytes, caught.value.cached_bytes) == (26 * MIB, 37 * MIB)
    # The end, 19 free, grows by a page.
    assert layout(program(EXPANDABLE)) == ["large 61440: 9216f 1536a 9216f 1536a 30720a 9216f"]
