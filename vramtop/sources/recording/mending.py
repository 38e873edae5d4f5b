"""Ends a recording whose recorder was killed, so that more can be appended."""

from __future__ import annotations

import mmap
import os
import zlib
from typing import Final

from ...errors import FileUnreadable
from .lines import FLUSHED, Lines, ending

_READ_BYTES: Final = 1 << 16
_MAX_TRIES: Final = 64


def mend(descriptor: int) -> None:
    """End the last member after its last whole snapshot, where it has no end.

    Raises:
        FileUnreadable: it is damaged before its end; nothing appended would ever be read.
    """
    lines = Lines(descriptor)
    while lines.next() is not None:
        pass
    if lines.damage:
        raise FileUnreadable(f"the recording is damaged ({lines.damage}); record into another file")
    if not lines.is_cut:
        return
    size = os.fstat(descriptor).st_size
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as data:
        begin, end = lines.member_at, size
        # The mark of a flush may stand in the data by chance; then what ends there is no member.
        for _ in range(_MAX_TRIES):
            at = data.rfind(FLUSHED, begin, end)
            if at < 0:
                break
            end = at + len(FLUSHED)
            if (closing := _closing(data, begin, end)) is not None:
                os.ftruncate(descriptor, end)
                os.lseek(descriptor, 0, os.SEEK_END)
                os.write(descriptor, closing)
                return
            end -= 1
    os.ftruncate(descriptor, begin)  # not even its header is whole


def _closing(data: mmap.mmap, begin: int, end: int) -> bytes | None:
    """What ends the member if it is cut at ``end``; None where that is within a line."""
    inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
    crc = size = 0
    last = b""
    try:
        for at in range(begin, end, _READ_BYTES):
            text = inflate.decompress(data[at : min(at + _READ_BYTES, end)])
            crc, size, last = zlib.crc32(text, crc), size + len(text), text[-1:] or last
        inflate.decompress(ending(crc, size))
    except zlib.error:
        return None
    return ending(crc, size) if inflate.eof and last == b"\n" else None
