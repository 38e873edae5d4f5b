"""The caching allocator's rules once more, slow and plain: lists of pieces, searched end to end.

Written from c10/cuda/CUDACachingAllocator.cpp beside, not after, ``vramtop.estimator.allocator``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

KIB, MIB = 1 << 10, 1 << 20
NO_LIMIT = 1 << 60


class NoMemory(Exception):
    pass


@dataclass
class Piece:
    address: int
    size: int
    requested: int | None = None
    """None: free."""
    mapped: bool = True

    @property
    def free(self) -> bool:
        return self.requested is None


@dataclass
class Area:
    address: int
    order: int
    stream: int
    small: bool
    expandable: bool
    pieces: list[Piece] = field(default_factory=list)

    @property
    def page(self) -> int:
        return 2 * MIB if self.small else 20 * MIB

    def tidy(self) -> None:
        """Join neighbours that are free and alike; drop empty ones."""
        tidied: list[Piece] = []
        for piece in self.pieces:
            if piece.size == 0:
                continue
            last = tidied[-1] if tidied else None
            if last and last.free and piece.free and last.mapped == piece.mapped:
                last.size += piece.size
            else:
                tidied.append(piece)
        self.pieces = tidied

    def cut(self, at: int) -> None:
        """Make an address the beginning of a piece."""
        for number, piece in enumerate(self.pieces):
            if piece.address < at < piece.address + piece.size:
                rest = Piece(at, piece.address + piece.size - at, None, piece.mapped)
                piece.size = at - piece.address
                self.pieces.insert(number + 1, rest)
                return


class NaiveAllocator:
    def __init__(
        self,
        expandable: bool = False,
        max_split: int | None = None,
        divisions: int = 0,
        capacity: int | None = None,
    ) -> None:
        self.expandable = expandable
        self.max_split = max_split
        self.divisions = divisions
        self.capacity = NO_LIMIT if capacity is None else capacity
        self.areas: list[Area] = []
        self.made = 0
        self.next_address = 1 << 44
        self.retries = 0
        self.ooms = 0

    @property
    def reserved(self) -> int:
        return sum(p.size for a in self.areas for p in a.pieces if p.mapped)

    @property
    def allocated(self) -> int:
        return sum(p.size for a in self.areas for p in a.pieces if not p.free)

    def round(self, size: int) -> int:
        if size > 512 and self.divisions > 1 and size > 512 * self.divisions:
            power = 1
            while power * 2 <= size:
                power *= 2
            steps = [power + power * k // self.divisions for k in range(self.divisions + 1)]
            return min(step for step in steps if step >= size)
        return max((size + 511) // 512, 1) * 512

    def malloc(self, requested: int, stream: int) -> int:
        if requested == 0:
            return 0
        size = self.round(requested)
        small = size <= MIB
        found = self.best_fit(size, small, stream)
        if found is None:
            found = self.more(size, small, stream)
        area, piece = found
        rest = piece.size - size
        if small or self.expandable:
            cut = rest >= 512
        else:
            cut = rest > MIB and (self.max_split is None or size < self.max_split)
        if cut:
            area.cut(piece.address + size)
        piece.requested = requested
        return piece.address

    def best_fit(self, size: int, small: bool, stream: int) -> tuple[Area, Piece] | None:
        fitting = sorted(
            (
                (piece.size, area.order, piece.address, area, piece)
                for area in self.areas
                if area.small == small and area.stream == stream
                for piece in area.pieces
                if piece.free and piece.mapped and piece.size >= size
            ),
            key=lambda item: item[:3],
        )
        if not fitting:
            return None
        chosen = fitting[0]
        if self.expandable:
            for other in fitting[1:]:
                if self.grown(other[3], other[4]) >= self.grown(chosen[3], chosen[4]):
                    break
                chosen = other
        area, piece = chosen[3:]
        if self.max_split is not None:
            if size < self.max_split and piece.size >= self.max_split:
                return None
            if size >= self.max_split and piece.size >= size + 20 * MIB:
                return None
        return area, piece

    @staticmethod
    def grown(area: Area, piece: Piece) -> int:
        place = area.pieces.index(piece)
        following = area.pieces[place + 1 : place + 2]
        return piece.size + sum(p.size for p in following if not p.mapped)

    def more(self, size: int, small: bool, stream: int) -> tuple[Area, Piece]:
        found = self.from_device(size, small, stream)
        if found is None and self.max_split is not None and self.give_oversize(size, small, stream):
            found = self.from_device(size, small, stream)
        if found is None:
            self.empty_cache()
            self.retries += 1
            found = self.from_device(size, small, stream)
        if found is None:
            self.ooms += 1
            raise NoMemory
        return found

    def from_device(self, size: int, small: bool, stream: int) -> tuple[Area, Piece] | None:
        if self.expandable:
            return self.grow(size, small, stream)
        if small:
            segment = 2 * MIB
        elif size < 10 * MIB:
            segment = 20 * MIB
        else:
            segment = (size + 2 * MIB - 1) // (2 * MIB) * 2 * MIB
        if self.reserved + segment > self.capacity:
            return None
        area = self.new_area(segment, small, stream)
        return area, area.pieces[0]

    def new_area(self, size: int, small: bool, stream: int, mapped: bool = True) -> Area:
        self.made += 1
        area = Area(self.next_address, self.made, stream, small, not mapped)
        area.pieces.append(Piece(self.next_address, size, None, mapped))
        self.next_address += size
        self.areas.append(area)
        return area

    def grow(self, size: int, small: bool, stream: int) -> tuple[Area, Piece] | None:
        for area in self.areas:
            if area.small != small or area.stream != stream:
                continue
            for place, piece in enumerate(area.pieces):
                if piece.mapped:
                    continue
                start = place - 1 if place and area.pieces[place - 1].free else place
                room = 0
                for other in area.pieces[start:]:
                    if not other.free:
                        break
                    room += other.size
                if room >= size:
                    return self.back(area, area.pieces[start].address, size)
        page = 2 * MIB if small else 20 * MIB
        whole = (self.capacity + self.capacity // 8 + page - 1) // page * page
        if whole < size:
            return None
        area = self.new_area(whole, small, stream, mapped=False)
        return self.back(area, area.address, size)

    def back(self, area: Area, start: int, size: int) -> tuple[Area, Piece] | None:
        """Map page after page from the left; each stretch without memory at once or not at all."""
        while True:
            piece = next(p for p in area.pieces if p.address <= start < p.address + p.size)
            have = piece.size if piece.mapped else 0
            if have >= size:
                return area, piece
            hole = area.pieces[area.pieces.index(piece) + 1] if piece.mapped else piece
            wanted = min(size - have, hole.size)
            pages = (wanted + area.page - 1) // area.page * area.page
            if self.reserved + pages > self.capacity:
                return None
            area.cut(hole.address + pages)
            hole.mapped = True
            area.tidy()

    def give_oversize(self, size: int, small: bool, stream: int) -> bool:
        assert self.max_split is not None
        wanted = max(size, self.max_split)
        oversize = sorted(
            (
                (piece.size, area.order, piece.address, area, piece)
                for area in self.areas
                if area.small == small and area.stream == stream
                for piece in area.pieces
                if piece.free and piece.mapped and piece.size >= self.max_split
            ),
            key=lambda item: item[:3],
        )
        enough = [item for item in oversize if item[0] >= wanted]
        if enough and not enough[0][3].expandable:
            self.areas.remove(enough[0][3])
            return True
        got = 0
        for item in reversed([item for item in oversize if item not in enough]):
            if got >= wanted:
                break
            if not item[3].expandable:
                got += item[0]
                self.areas.remove(item[3])
        return got >= wanted

    def free(self, address: int) -> None:
        if address == 0:
            return
        for area in self.areas:
            for piece in area.pieces:
                if piece.address == address and not piece.free:
                    piece.requested = None
                    area.tidy()
                    return
        raise AssertionError("nothing is there")

    def empty_cache(self) -> None:
        for area in list(self.areas):
            if not area.expandable:
                if len(area.pieces) == 1 and area.pieces[0].free:
                    self.areas.remove(area)
                continue
            held = any(piece.mapped for piece in area.pieces)
            for start, end in [
                (p.address, p.address + p.size) for p in area.pieces if p.free and p.mapped
            ]:
                base = area.address
                first = base + (start - base + area.page - 1) // area.page * area.page
                last = base + (end - base) // area.page * area.page
                if first < last:
                    area.cut(first)
                    area.cut(last)
                    for piece in area.pieces:
                        if first <= piece.address < last:
                            piece.mapped = False
            area.tidy()
            if held and not any(piece.mapped for piece in area.pieces):
                self.areas.remove(area)  # addresses that never had memory are kept for the retry

    def layout(self) -> list[tuple[int, int, bool, int, list[tuple[int, int, int]]]]:
        """(address, stream, small, total, [(address, size, requested)]) of each mapped stretch."""
        found = []
        for area in self.areas:
            stretch: list[Piece] = []
            for piece in [*area.pieces, None]:
                if piece is not None and piece.mapped:
                    stretch.append(piece)
                elif stretch:
                    found.append(
                        (
                            stretch[0].address,
                            area.stream,
                            area.small,
                            sum(p.size for p in stretch),
                            [(p.address, p.size, p.requested or 0) for p in stretch],
                        )
                    )
                    stretch = []
        return sorted(found)
