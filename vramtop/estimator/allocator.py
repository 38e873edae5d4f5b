"""PyTorch's caching allocator (c10/cuda/CUDACachingAllocator.cpp, torch 2.13), replayed.

Not replayed: private pools of CUDA graphs, garbage_collection_threshold and
per_process_memory_fraction, both off by default.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from typing import Final

from .pool import (
    LARGE_SEGMENT_BYTES,
    MIN_BLOCK_BYTES,
    SMALL_REQUEST_BYTES,
    Block,
    BlockState,
    Pool,
    SegmentState,
    Span,
    round_request,
    segment_request,
)
from .workload import AllocatorConfig

_UNLIMITED_BYTES: Final = 1 << 60
_FIRST_ADDRESS: Final = 1 << 44
_DEFAULT_CONFIG: Final = AllocatorConfig()


class OutOfMemory(Exception):
    """The device has not got what a request needs, even after cached segments were given back."""

    def __init__(
        self, requested_bytes: int, segment_bytes: int, free_bytes: int, cached_bytes: int
    ) -> None:
        super().__init__(
            f"{requested_bytes} bytes requested, {free_bytes} free on the device, "
            f"{cached_bytes} cached"
        )
        self.requested_bytes = requested_bytes
        self.segment_bytes = segment_bytes
        """What was asked of the driver."""
        self.free_bytes = free_bytes
        """Of the device, once all that can be was given back."""
        self.cached_bytes = cached_bytes
        """Reserved and not allocated, and still not to be given back: fragmentation."""


class CachingAllocator:
    """Addresses for requests as torch.cuda would give them, up to where cudaMalloc puts segments.

    Segments lie one behind the other in order of their making. ``capacity_bytes`` is what the
    allocator may reserve, None without limit. ``malloc`` raises OutOfMemory; that changes nothing
    but what was given back to the device.
    """

    def __init__(
        self, config: AllocatorConfig = _DEFAULT_CONFIG, capacity_bytes: int | None = None
    ) -> None:
        self.config = config
        self.capacity_bytes = capacity_bytes
        self.allocated_bytes = 0
        self.reserved_bytes = 0
        self.requested_bytes = 0
        self.peak_allocated_bytes = 0
        self.peak_reserved_bytes = 0
        self.awaited_bytes = 0
        """Released, and held back for other streams."""
        self.alloc_retries = 0
        self.ooms = 0
        self.segment_count = 0
        """segment.all.current of torch.cuda.memory_stats: expandable segments are not counted."""
        self._limit_bytes = _UNLIMITED_BYTES if capacity_bytes is None else capacity_bytes
        self._max_split_bytes = config.max_split_bytes or _UNLIMITED_BYTES
        self._pools: tuple[dict[int, Pool], dict[int, Pool]] = ({}, {})
        self._active: dict[int, Block] = {}
        self._retired: deque[int] = deque()
        self._next_address = _FIRST_ADDRESS
        self._spans_made = 0

    @property
    def active_bytes(self) -> int:
        """Allocated, and held back for other streams."""
        return self.allocated_bytes + self.awaited_bytes

    @property
    def inactive_split_bytes(self) -> int:
        """Free pieces of segments that are in use; of expandable segments none are counted."""
        return sum(
            block.size_bytes
            for pool in self._each_pool()
            for *_, block in pool.free
            if not block.span.expandable and block.size_bytes != block.span.size_bytes
        )

    def malloc(self, size_bytes: int, stream: int = 0) -> int:
        """Address of a new block; 0, and nothing counted, for a request of 0 bytes."""
        if size_bytes == 0:
            return 0
        size = round_request(size_bytes, self.config.roundup_power2_divisions)
        small = size <= SMALL_REQUEST_BYTES
        pools = self._pools[small]
        pool = pools.get(stream)
        if pool is None:
            pool = pools[stream] = Pool(stream, small)
        block = self._free_block(pool, size) or self._new_block(pool, size, size_bytes)
        left = block.size_bytes - size
        if small or self.config.expandable_segments:
            split = left >= MIN_BLOCK_BYTES
        else:
            split = left > SMALL_REQUEST_BYTES and size < self._max_split_bytes
        if split:
            rest = Block(block.span, pool, block.address + size, left)
            block.insert_after(rest)
            block.size_bytes = size
            pool.add(rest)
        block.allocated = True
        block.requested_bytes = size_bytes
        self._active[block.address] = block
        self.requested_bytes += size_bytes
        self.allocated_bytes += block.size_bytes
        if self.allocated_bytes > self.peak_allocated_bytes:
            self.peak_allocated_bytes = self.allocated_bytes
        return block.address

    def free(self, address: int) -> None:
        """Give a block back to its pool; KeyError where none is allocated. 0 is nothing."""
        if address == 0:
            return
        self._count_out(self._active[address])
        self._back(address)

    def retire(self, address: int) -> None:
        """Count a block as released, and hold it back: another stream still uses it."""
        if address == 0:
            return
        block = self._active[address]
        self._count_out(block)
        self.awaited_bytes += block.size_bytes
        self._retired.append(address)

    def wait(self, fewer_than: int = 1) -> None:
        """Give retired blocks back to their pools, oldest first, until there are fewer."""
        while len(self._retired) >= fewer_than:
            address = self._retired.popleft()
            self.awaited_bytes -= self._active[address].size_bytes
            self._back(address)

    def _count_out(self, block: Block) -> None:
        self.allocated_bytes -= block.size_bytes
        self.requested_bytes -= block.requested_bytes
        block.requested_bytes = 0

    def _back(self, address: int) -> None:
        """Into the pool, one with its free neighbours (free_block)."""
        block = self._active.pop(address)
        block.allocated = False
        pool = block.pool
        if block.prev is not None:
            pool.merge(block, block.prev)
        if block.next is not None:
            pool.merge(block, block.next)
        pool.add(block)

    def block_bytes(self, address: int) -> int:
        """Size of the allocated block at an address, 0 of address 0."""
        return self._active[address].size_bytes if address else 0

    def empty_cache(self) -> None:
        """Give back to the device what is free: whole segments, whole pages of expandable ones.

        Retired blocks are waited for (synchronize_and_free_events).
        """
        self.wait()
        for pools in self._pools:  # large ones first, as release_cached_blocks
            for pool in pools.values():
                for *_, block in list(pool.free):
                    if block.span.expandable:
                        self._unmap(pool, block)
                    elif block.size_bytes == block.span.size_bytes:
                        self._release(pool, block)

    def reset_peaks(self) -> None:
        """Peaks are what is there now."""
        self.peak_allocated_bytes = self.allocated_bytes
        self.peak_reserved_bytes = self.reserved_bytes

    def segments(self) -> list[SegmentState]:
        """The map by address, as torch.cuda.memory_snapshot tells it."""
        heads = [
            block for block in self._mapped_blocks() if block.prev is None or not block.prev.mapped
        ]
        return [_segment(head) for head in sorted(heads, key=lambda block: block.address)]

    def _each_pool(self) -> Iterator[Pool]:
        for pools in self._pools:
            yield from pools.values()

    def _mapped_blocks(self) -> Iterator[Block]:
        yield from self._active.values()
        for pool in self._each_pool():
            for *_, block in pool.free:
                yield block

    def _free_block(self, pool: Pool, size: int) -> Block | None:
        """Take the best fit out of the pool (get_free_block)."""
        free = pool.free
        index = bisect_left(free, (size,))
        if index == len(free):
            return None
        if self.config.expandable_segments:
            # What a block can grow to counts as its size.
            while index + 1 < len(free) and _grown(free[index + 1][3]) < _grown(free[index][3]):
                index += 1
        block = free[index][3]
        limit = self._max_split_bytes
        if size < limit <= block.size_bytes:
            return None
        if size >= limit and block.size_bytes >= size + LARGE_SEGMENT_BYTES:
            return None
        del free[index]
        return block

    def _new_block(self, pool: Pool, size: int, requested_bytes: int) -> Block:
        """A block from the device, after giving cached ones back where there is no room."""
        block = self._from_device(pool, size)
        if block is None and self._release_oversize(pool, size):
            block = self._from_device(pool, size)
        if block is None:
            self.empty_cache()
            self.alloc_retries += 1
            block = self._from_device(pool, size)
        if block is None:
            self.ooms += 1
            raise OutOfMemory(
                requested_bytes,
                segment_request(size),
                self._limit_bytes - self.reserved_bytes,
                self.reserved_bytes - self.allocated_bytes,
            )
        return block

    def _from_device(self, pool: Pool, size: int) -> Block | None:
        """One try (alloc_block); the block is in no list."""
        if self.config.expandable_segments:
            return self._expand(pool, size)
        segment_bytes = segment_request(size)
        if not self._reserve(segment_bytes):
            return None
        span = self._span(segment_bytes, expandable=False)
        self.segment_count += 1
        return Block(span, pool, span.address, segment_bytes)

    def _span(self, size: int, expandable: bool) -> Span:
        self._spans_made += 1
        span = Span(self._next_address, size, self._spans_made, expandable)
        self._next_address += size
        return span

    def _reserve(self, size: int) -> bool:
        if self.reserved_bytes + size > self._limit_bytes:
            return False
        self.reserved_bytes += size
        if self.reserved_bytes > self.peak_reserved_bytes:
            self.peak_reserved_bytes = self.reserved_bytes
        return True

    def _release(self, pool: Pool, block: Block) -> None:
        """Give a whole free segment back (release_block)."""
        pool.remove(block)
        self.reserved_bytes -= block.size_bytes
        self.segment_count -= 1

    def _release_oversize(self, pool: Pool, size: int) -> bool:
        """Give back just enough oversize blocks (release_available_cached_blocks)."""
        if self.config.max_split_bytes is None:
            return False
        wanted = max(size, self._max_split_bytes)
        free = pool.free
        index = bisect_left(free, (wanted,))
        if index < len(free) and not free[index][3].span.expandable:
            self._release(pool, free[index][3])
            return True
        released = 0
        while index > 0 and released < wanted and free[index - 1][0] >= self._max_split_bytes:
            index -= 1
            block = free[index][3]
            if not block.span.expandable:
                released += block.size_bytes
                self._release(pool, block)
        return released >= wanted

    def _expand(self, pool: Pool, size: int) -> Block | None:
        """A block by mapping pages, as low as there is room (try_allocate_expandable_block)."""
        block = self._expandable(pool, size)
        if block is None:
            return None
        if not block.mapped and not self._map(pool, block, min(block.size_bytes, size)):
            return None
        while block.size_bytes < size:
            new = block.next
            assert new is not None, "an expandable candidate has the room"
            if not self._map(pool, new, min(size - block.size_bytes, new.size_bytes)):
                return None
            block = new
        pool.remove(block)
        return block

    def _expandable(self, pool: Pool, size: int) -> Block | None:
        """First of the free and unmapped blocks in a row that are large enough together."""
        for _, block in pool.unmapped:
            first = block
            if block.prev is not None and not block.prev.allocated:
                first = block.prev
            room = 0
            there: Block | None = first
            while there is not None and not there.allocated and room < size:
                room += there.size_bytes
                there = there.next
            if room >= size:
                return first
        # The addresses reserved are 9/8 of the device's memory, which is taken for the capacity.
        pages = -(-(self._limit_bytes + self._limit_bytes // 8) // pool.page_bytes)
        span_bytes = pages * pool.page_bytes
        if span_bytes < size:
            return None
        span = self._span(span_bytes, expandable=True)
        block = Block(span, pool, span.address, span_bytes)
        block.mapped = False
        pool.add_unmapped(block)
        return block

    def _map(self, pool: Pool, block: Block, size: int) -> bool:
        """Back the beginning of an unmapped block with whole pages (map_block)."""
        mapped = -(-size // pool.page_bytes) * pool.page_bytes
        if not self._reserve(mapped):
            return False
        pool.remove_unmapped(block)
        block.mapped = True
        if mapped < block.size_bytes:
            rest = Block(block.span, pool, block.address + mapped, block.size_bytes - mapped)
            rest.mapped = False
            block.insert_after(rest)
            pool.add_unmapped(rest)
            block.size_bytes = mapped
        pool.merge(block, block.prev)
        pool.merge(block, block.next)
        pool.add(block)
        return True

    def _unmap(self, pool: Pool, block: Block) -> None:
        """Give back the pages that lie wholly in a free block (unmap_block)."""
        page, base = pool.page_bytes, block.span.address
        start = base + -(-(block.address - base) // page) * page
        end = base + (block.address + block.size_bytes - base) // page * page
        if start >= end:
            return
        pool.remove(block)
        if start > block.address:
            before = Block(block.span, pool, block.address, start - block.address)
            block.insert_before(before)
            pool.add(before)
        rest = block.address + block.size_bytes - end
        if rest:
            after = Block(block.span, pool, end, rest)
            block.insert_after(after)
            pool.add(after)
        block.address, block.size_bytes, block.mapped = start, end - start, False
        self.reserved_bytes -= end - start
        pool.merge(block, block.prev)
        pool.merge(block, block.next)
        if block.prev is not None or block.next is not None:
            pool.add_unmapped(block)  # else the whole segment is empty, and its addresses go too


def _grown(block: Block) -> int:
    beyond = block.next
    return block.size_bytes + (0 if beyond is None or beyond.mapped else beyond.size_bytes)


def _segment(head: Block) -> SegmentState:
    blocks = []
    block: Block | None = head
    while block is not None and block.mapped:
        blocks.append(
            BlockState(block.address, block.size_bytes, block.requested_bytes, block.allocated)
        )
        block = block.next
    return SegmentState(
        address=head.address,
        total_bytes=sum(block.size_bytes for block in blocks),
        stream=head.pool.stream,
        pool="small" if head.pool.small else "large",
        expandable=head.span.expandable,
        blocks=tuple(blocks),
    )
