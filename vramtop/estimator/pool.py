"""What the caching allocator is made of: its constants, rounding, blocks and pools of free blocks.

Names and figures are those of c10/cuda/CUDACachingAllocator.cpp and c10/core/AllocatorConfig.h
(torch 2.13); ``allocator`` holds the rules that use them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Final, Literal

PoolName = Literal["small", "large"]
MIN_BLOCK_BYTES: Final = 512
"""kMinBlockSize: every block is a multiple."""
SMALL_REQUEST_BYTES: Final = 1 << 20
"""kSmallSize: the largest request that the small pool serves."""
SMALL_SEGMENT_BYTES: Final = 2 << 20
"""kSmallBuffer: a segment of the small pool, and its page where segments expand."""
LARGE_SEGMENT_BYTES: Final = 20 << 20
"""large_segment_size: a segment that requests below 10 MiB share, a page of the large pool, and
how much larger than a request an oversize block may be (max_non_split_rounding_size)."""
OWN_SEGMENT_BYTES: Final = 10 << 20
"""kMinLargeAlloc: from here on a segment is cut for its request."""
OWN_SEGMENT_ROUND_BYTES: Final = 2 << 20
"""kRoundLarge: what such a segment is a multiple of."""


@dataclass(frozen=True, slots=True)
class BlockState:
    """A piece of a segment."""

    address: int
    size_bytes: int
    requested_bytes: int
    """What the program asked for; 0 where it is free."""
    allocated: bool


@dataclass(frozen=True, slots=True)
class SegmentState:
    """One cudaMalloc, or one contiguous mapped range of an expandable segment."""

    address: int
    total_bytes: int
    stream: int
    pool: PoolName
    expandable: bool
    blocks: tuple[BlockState, ...]
    """In order of address; their sizes sum to the total."""


def round_request(size_bytes: int, divisions: int) -> int:
    """Bytes of the block that serves a request (round_size).

    ``divisions`` is roundup_power2_divisions: above 512 B · divisions a request is rounded up to
    the next of as many equal steps between two powers of two; below 2 it is off.
    """
    if size_bytes < MIN_BLOCK_BYTES:
        return MIN_BLOCK_BYTES
    if divisions > 1 and size_bytes > MIN_BLOCK_BYTES * divisions:
        step = (1 << size_bytes.bit_length() - 1) >> divisions.bit_length() - 1
        return -(-size_bytes // step) * step
    return -(-size_bytes // MIN_BLOCK_BYTES) * MIN_BLOCK_BYTES


def segment_request(size_bytes: int) -> int:
    """Bytes asked of cudaMalloc for a rounded request without a block (get_allocation_size)."""
    if size_bytes <= SMALL_REQUEST_BYTES:
        return SMALL_SEGMENT_BYTES
    if size_bytes < OWN_SEGMENT_BYTES:
        return LARGE_SEGMENT_BYTES
    return -(-size_bytes // OWN_SEGMENT_ROUND_BYTES) * OWN_SEGMENT_ROUND_BYTES


class Span:
    """What a block is cut from: a cudaMalloc, or an expandable segment's reserved addresses."""

    __slots__ = ("address", "counter", "expandable", "size_bytes")

    def __init__(self, address: int, size_bytes: int, counter: int, expandable: bool) -> None:
        self.address = address
        self.size_bytes = size_bytes
        self.counter = counter
        """registration_counter: among free blocks of one size the oldest span's comes first."""
        self.expandable = expandable


class Block:
    """A piece of a span, linked to its neighbours there."""

    __slots__ = (
        "address",
        "allocated",
        "mapped",
        "next",
        "pool",
        "prev",
        "requested_bytes",
        "size_bytes",
        "span",
    )

    def __init__(self, span: Span, pool: Pool, address: int, size_bytes: int) -> None:
        self.span = span
        self.pool = pool
        self.address = address
        self.size_bytes = size_bytes
        self.requested_bytes = 0
        self.allocated = False
        self.mapped = True
        """Whether memory backs it; False only in expandable segments."""
        self.prev: Block | None = None
        self.next: Block | None = None

    def insert_after(self, new: Block) -> None:
        """Link a block in behind this one."""
        new.prev, new.next = self, self.next
        if self.next is not None:
            self.next.prev = new
        self.next = new

    def insert_before(self, new: Block) -> None:
        """Link a block in before this one."""
        new.prev, new.next = self.prev, self
        if self.prev is not None:
            self.prev.next = new
        self.prev = new


Key = tuple[int, int, int, Block]


class Pool:
    """The free blocks of one stream that serve small requests, or large ones."""

    __slots__ = ("free", "page_bytes", "small", "stream", "unmapped")

    def __init__(self, stream: int, small: bool) -> None:
        self.stream = stream
        self.small = small
        self.page_bytes = SMALL_SEGMENT_BYTES if small else LARGE_SEGMENT_BYTES
        self.free: list[Key] = []
        """Mapped free blocks by size, age of their span, address: the order of best fit
        (BlockComparatorSizeCounterAddress)."""
        self.unmapped: list[tuple[int, Block]] = []
        """Addresses of expandable segments without memory, ascending."""

    def add(self, block: Block) -> None:
        """Make a block one of the free ones."""
        insort(self.free, (block.size_bytes, block.span.counter, block.address, block))

    def remove(self, block: Block) -> None:
        """Take a free block out."""
        free = self.free
        del free[bisect_left(free, (block.size_bytes, block.span.counter, block.address))]

    def add_unmapped(self, block: Block) -> None:
        """Remember a stretch of addresses without memory."""
        insort(self.unmapped, (block.address, block))

    def remove_unmapped(self, block: Block) -> None:
        """Forget a stretch of addresses without memory."""
        del self.unmapped[bisect_left(self.unmapped, (block.address,))]

    def merge(self, block: Block, neighbour: Block | None) -> None:
        """Let a block, itself in no list, take in a free neighbour (try_merge_blocks)."""
        if neighbour is None or neighbour.allocated or neighbour.mapped != block.mapped:
            return
        if neighbour.mapped:
            self.remove(neighbour)
        else:
            self.remove_unmapped(neighbour)
        if block.prev is neighbour:
            block.address = neighbour.address
            block.prev = neighbour.prev
            if block.prev is not None:
                block.prev.next = block
        else:
            block.next = neighbour.next
            if block.next is not None:
                block.next.prev = block
        block.size_bytes += neighbour.size_bytes
