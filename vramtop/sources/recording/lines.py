"""Lines of a gzip file of any number of members: read with bounded memory, up to a cut."""

from __future__ import annotations

import os
import struct
import zlib
from contextlib import suppress
from typing import Final

MAX_LINE_BYTES: Final = 16 << 20
FLUSHED: Final = b"\x00\x00\xff\xff"
"""What a flushed deflate stream ends with (RFC 1951, 3.2.4: an empty stored block)."""
_GZIP: Final = 16 + zlib.MAX_WBITS
_READ_BYTES: Final = 1 << 16
_INFLATED_BYTES: Final = 1 << 18


def ending(crc: int, size: int) -> bytes:
    """What ends a member after a flush: an empty last block, then gzip's checksum and size."""
    return b"\x03\x00" + struct.pack("<II", crc, size & 0xFFFFFFFF)


class Lines:
    """Gives one line after the other; ``copy`` gives another reader at the same place."""

    def __init__(self, descriptor: int) -> None:
        """Reads from the start of an open file, wherever the descriptor stands."""
        self.damage = ""
        """Why nothing more can be read; "" at an end of the file."""
        self.is_cut = False
        """The file has ended within a member."""
        self.member_at = 0
        """Where in the file the member being read begins, bytes."""
        self._descriptor = descriptor
        self._offset = 0
        self._inflate = zlib.decompressobj(_GZIP)
        self._packed = b""
        self._text = b""
        self._searched = 0

    def next(self) -> bytes | None:
        """The next whole line without its end; None where there is none."""
        while (end := self._text.find(b"\n", self._searched)) < 0:
            self._searched = len(self._text)
            if self._searched > MAX_LINE_BYTES:
                self.damage = f"a line is longer than {MAX_LINE_BYTES >> 20} MiB"
            if self.damage or not self._inflate_more():
                return None
        line, self._text, self._searched = self._text[:end], self._text[end + 1 :], 0
        return line

    @property
    def has_part(self) -> bool:
        """Whether there is the beginning of a line, whose end is missing."""
        if self._text or not self.is_cut:
            return bool(self._text)
        size = os.fstat(self._descriptor).st_size
        return os.pread(self._descriptor, len(FLUSHED), max(size - len(FLUSHED), 0)) != FLUSHED

    def copy(self) -> Lines:
        """As it is now, whatever is read afterwards."""
        other = Lines(self._descriptor)
        other.damage, other.is_cut, other.member_at = self.damage, self.is_cut, self.member_at
        other._offset, other._packed = self._offset, self._packed
        other._inflate = self._inflate.copy()
        other._text, other._searched = self._text, self._searched
        return other

    def _inflate_more(self) -> bool:
        """Take in more text; False at the end of what there is."""
        if self._inflate.eof:
            self._packed = self._inflate.unused_data or self._packed
            if not self._packed and not self._read_more():
                self.is_cut = False
                return False
            self.member_at = self._offset - len(self._packed)
            self._inflate = zlib.decompressobj(_GZIP)
        at_end = not self._packed and not self._read_more()
        before = self._inflate.copy()
        try:
            text = self._inflate.decompress(self._packed, _INFLATED_BYTES)
        except zlib.error as error:
            self.damage = str(error)
            self._text += _sound(before, self._packed)
            return True
        self._packed = self._inflate.unconsumed_tail
        self._text += text
        self.is_cut = at_end and not text and not self._inflate.eof
        return not self.is_cut

    def _read_more(self) -> bool:
        try:
            self._packed = os.pread(self._descriptor, _READ_BYTES, self._offset)
        except OSError as error:
            self.damage = str(error)
            return False
        self._offset += len(self._packed)
        return bool(self._packed)


def _sound(inflate: zlib._Decompress, packed: bytes) -> bytes:
    """What can be read of damaged data: zlib gives nothing of a piece in which it finds a fault."""
    text = bytearray()
    with suppress(zlib.error):
        for at in range(len(packed)):
            text += inflate.decompress(packed[at : at + 1])
    return bytes(text)
