"""Where the functions of an ELF file lie: what the target's files say before it is touched."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# elf(5): the 64-bit little-endian layouts; Python runs on others, PyTorch does not.
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_MAGIC = b"\x7fELF\x02\x01"
_PT_LOAD, _SHT_SYMTAB, _SHT_DYNSYM, _SHN_UNDEF = 1, 2, 11, 0


@dataclass(frozen=True, slots=True)
class Symbol:
    """One defined name."""

    address: int
    """As the file states it: relative to the load bias."""
    file_offset: int


class ElfFile:
    """An ELF file mapped for reading.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no 64-bit little-endian ELF file.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if self._data[: len(_MAGIC)] != _MAGIC:
            raise ValueError(f"{path} is no 64-bit ELF file")
        head = _HEADER.unpack_from(self._data)
        self._segments = [
            _SEGMENT.unpack_from(self._data, head[5] + n * head[9]) for n in range(head[10])
        ]
        sections_end = head[6] + head[12] * head[11]
        self._sections = [
            _SECTION.unpack_from(self._data, head[6] + n * head[11])
            for n in range(head[12] if head[6] and sections_end <= len(self._data) else 0)
        ]

    def symbols(self, names: set[str]) -> dict[str, Symbol]:
        """Those of the names that are defined, by name."""
        found: dict[str, Symbol] = {}
        wanted = {name.encode(): name for name in names}
        for key, value in self._defined():
            if key in wanted and wanted[key] not in found:
                offset = self._file_offset(value)
                if offset is not None:
                    found[wanted[key]] = Symbol(value, offset)
        return found

    def bias(self, start: int, file_offset: int) -> int | None:
        """What is added to an address where the page at ``file_offset`` is mapped at ``start``."""
        for kind, _, offset, address, _, size, _, align in self._segments:
            page = align - 1 if align else 0
            if kind == _PT_LOAD and offset & ~page <= file_offset < offset + size:
                return int(start - (address - offset + file_offset))
        return None

    def read(self, file_offset: int, count: int) -> bytes:
        """``count`` bytes of the file."""
        return self._data[file_offset : file_offset + count]

    def _defined(self) -> Iterator[tuple[bytes, int]]:
        for kind in (_SHT_DYNSYM, _SHT_SYMTAB):
            for section in self._sections:
                if section[1] != kind or section[6] >= len(self._sections):
                    continue
                strings = self._sections[section[6]]
                names = self._data[strings[4] : strings[4] + strings[5]]
                table = self._data[section[4] : section[4] + section[5]]
                table = table[: len(table) - len(table) % _SYMBOL.size]
                for name, _, _, index, value, _ in _SYMBOL.iter_unpack(table):
                    if index != _SHN_UNDEF and value:
                        yield names[name : names.find(b"\0", name)], value

    def _file_offset(self, address: int) -> int | None:
        for kind, _, offset, start, _, size, _, _ in self._segments:
            if kind == _PT_LOAD and start <= address < start + size:
                return int(offset + address - start)
        return None
