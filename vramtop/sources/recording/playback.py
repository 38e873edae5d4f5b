"""Where a replay is, as the screen says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SPEEDS: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


@dataclass(frozen=True, slots=True)
class Playback:
    """A moment of a replay; seconds are those of the recording."""

    position_s: float = 0.0
    length_s: float = 0.0
    speed: float = 1.0
    is_paused: bool = False
    is_seeking: bool = True
    """On its way to this moment: the screen still shows another."""
    at_end: bool = False
    ending: str = ""
    """Why the recording ends where it does, a sentence; "" where it ends in order."""

    @property
    def text(self) -> str:
        """As in the status line: "▶ 4× 01:23 / 10:00"."""
        if self.is_seeking:
            mark = "…"
        elif self.at_end:
            mark = "■"
        else:
            mark = "⏸" if self.is_paused else "▶"
        cut = " cut" * bool(self.ending)
        length = _clock(self.length_s, self.length_s)
        return f"{mark} {self.speed:g}× {_clock(self.position_s, self.length_s)} / {length}{cut}"


def _clock(seconds: float, longest_s: float) -> str:
    """Minutes and seconds, with hours where the longest has some."""
    minutes, second = divmod(int(seconds), 60)
    if longest_s < 3600:
        return f"{minutes:02}:{second:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"
