"""The answer about a workload as lines: verdict, bars against the device, totals, phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Final

from rich.cells import cell_len
from rich.style import Style
from textual.strip import Strip

from ..core.units import format_bytes, format_percent
from ..draw.tones import COMPONENT_TONES
from ..estimator.accumulation import accumulations
from ..estimator.controls import short_device
from ..estimator.explore_words import VERDICT_TONES, VERDICT_WORDS, method_words
from ..estimator.judge import MOST_BATCH, usable_bytes
from ..estimator.labels import COMPONENT_LABELS, PHASE_WORDS
from ..estimator.result import COMPONENTS, Estimate
from .exploration import Exploration
from .paint import Piece, bar, fit, glyph, line, swatch
from .theme import SEGMENT_POSITIONS, Ink

_LABEL: Final = 19
_BYTES: Final = 9
_SHARE: Final = 5
_PHASE: Final = 10
_SLIVER: Final = "▏"
"""The bar of what is too little for a cell."""
_LEAST_BAR: Final = 4
_REVERSED: Final = Style(reverse=True)
_ON_CPU: Final = {"context": "rest of the process"}
_ROOMY_LINES: Final = 28
"""From which blank lines set the parts apart."""

# What low screens leave out, from the last to the first.
_ALWAYS, _PHASES, _SURE, _PEAK, _SMALL, _NOTES, _BLANK = range(7)


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    rank: int
    strip: Strip


def answer_lines(
    exploration: Exploration, estimate: Estimate, width: int, height: int, ink: Ink
) -> list[Strip]:
    """At most ``height`` lines about an estimate; where room lacks, what matters least goes."""
    painter = _Painter(exploration, estimate, width, ink, is_roomy=height >= _ROOMY_LINES)
    items = painter.items()
    for rank in range(_BLANK, _ALWAYS, -1):
        while len(items) > height and any(item.rank == rank for item in items):
            last = max(i for i, item in enumerate(items) if item.rank == rank)
            del items[last]
    return [item.strip for item in items[:height]]


class _Painter:
    """Makes the lines of one estimate at one width."""

    def __init__(
        self,
        exploration: Exploration,
        estimate: Estimate,
        width: int,
        ink: Ink,
        *,
        is_roomy: bool,
    ) -> None:
        self._exploration = exploration
        self._estimate = estimate
        self._width = width
        self._ink = ink
        self._is_roomy = is_roomy
        self._on_cpu = estimate.workload.backend == "cpu"
        self._room = max(width - 2 - _LABEL - _BYTES - _SHARE - 1, 0)
        """For the bar of a line."""
        device, footprint = estimate.device, estimate.footprint
        self._usable = None if device is None else usable_bytes(device)
        total = 0 if device is None else device.total_bytes + exploration.others_bytes
        self._top = max(total, footprint.process_bytes + exploration.others_bytes)

    def items(self) -> list[_Item]:
        """All lines, with how much each matters."""
        return [
            *self._verdict(),
            *self._blank(),
            *self._device(),
            *self._blank(),
            *self._components(),
            *self._blank(),
            *self._totals(),
            *self._blank(),
            *self._most(),
            *self._blank(),
            *self._phases(),
            *self._notes(),
        ]

    def _item(self, rank: int, *pieces: Piece) -> _Item:
        return _Item(rank, line(pieces, self._width, self._ink("text")))

    def _blank(self) -> list[_Item]:
        return [self._item(_BLANK)] if self._is_roomy else []

    def _wrapped(self, rank: int, text: str, tone: str = "dim") -> list[_Item]:
        parts = wrap(text, max(self._width - 1, 10), break_on_hyphens=False)
        return [self._item(rank, (f" {part}", self._ink(tone))) for part in parts]

    def _verdict(self) -> list[_Item]:
        """The word, and how much is left or too much."""
        estimate, ink, usable = self._estimate, self._ink, self._usable
        if estimate.verdict is None or usable is None:
            said = "no GPU chosen, so nothing to compare with"
            return [self._item(_ALWAYS, (f" {said}", ink("dim")))]
        tone = VERDICT_TONES[estimate.verdict]
        word = f" {VERDICT_WORDS[estimate.verdict]} "
        left = usable - estimate.footprint.process_bytes
        room = f" {format_bytes(left)} left" if left >= 0 else f" {format_bytes(-left)} too much"
        if left >= 0 and estimate.verdict == "oom":
            room = " and no piece is large enough"
        elif estimate.verdict == "tight":
            room += " (uncertain)"
        style = ink("background", tone, bold=True)
        if ink.mono:
            style = ink("text", bold=True) + _REVERSED
        pieces: list[Piece] = [(" ", ink("text")), (word, style), (room, ink(tone, bold=True))]
        if not self._is_roomy:
            return [self._item(_ALWAYS, *pieces)]
        return [
            self._item(_BLANK, (" ", ink("text")), (" " * len(word), style)),
            self._item(_ALWAYS, *pieces),
            self._item(_BLANK, (" ", ink("text")), (" " * len(word), style)),
        ]

    def _device(self) -> list[_Item]:
        """All that is held as one bar, and under it where the device ends."""
        ink, usable, room = self._ink, self._usable, self._width - 2
        sizes = self._sizes()
        parts = [(key, float(sizes.get(key, 0))) for key in SEGMENT_POSITIONS]
        items = [self._item(_ALWAYS, (" ", ink("text")), *bar(parts, room, ink))]
        device = self._estimate.device
        if usable is None or device is None:
            return items
        others = self._exploration.others_bytes
        end = min(round((usable + others) / self._top * room), room)
        process = self._estimate.footprint.process_bytes
        name = f" {short_device(device.name)}: {format_bytes(usable)} "
        ruler = "└" + "─" * max(end - 2, 0) + "┘"
        if len(name) + 3 <= end:
            ruler = "└─" + name + "─" * (end - len(name) - 3) + "┘"
        pieces: list[Piece] = [(f" {ruler}", ink("dim"))]
        if process > usable:
            over = max(room - end, 1)
            said = " OOM " if over >= 7 else ""
            pieces.append(((said + "╳" * over)[:over], ink("error", bold=True)))
        return [*items, self._item(_ALWAYS, *pieces)]

    def _sizes(self) -> dict[str, int]:
        """Bytes by the segment in whose colour they are."""
        estimate, device = self._estimate, self._estimate.device
        sizes: dict[str, int] = {}
        for name in COMPONENTS:
            key = COMPONENT_TONES.get(name, name)
            sizes[key] = sizes.get(key, 0) + estimate.footprint.components[name]
        sizes["other_processes"] = self._exploration.others_bytes
        if device is not None and self._usable is not None:
            left = max(device.total_bytes - estimate.footprint.process_bytes, 0)
            sizes["free"] = max(self._usable - estimate.footprint.process_bytes, 0)
            sizes["driver_reserved"] = left - sizes["free"]
        return sizes

    def _components(self) -> list[_Item]:
        footprint = self._estimate.footprint
        sizes = {name: footprint.components[name] for name in COMPONENTS}
        items = [
            self._amount(
                _SMALL if size < 0.005 * footprint.process_bytes else _ALWAYS,
                swatch(key := COMPONENT_TONES.get(name, name), self._ink),
                self._label(name),
                size,
                key,
            )
            for name, size in sizes.items()
            if size
        ]
        others = self._exploration.others_bytes
        if others:
            mark = swatch("other_processes", self._ink)
            items.append(self._amount(_ALWAYS, mark, "other processes", others, "other_processes"))
        return items

    def _label(self, component: str) -> str:
        if self._on_cpu and component in _ON_CPU:
            return _ON_CPU[component]
        return COMPONENT_LABELS[component]

    def _amount(self, rank: int, mark: Piece, label: str, size: int, key: str) -> _Item:
        """One line: a mark, a label, bytes, share, and a bar on the device's scale."""
        ink = self._ink
        share = format_percent(100 * size / self._top, 0) if self._top else ""
        pieces: list[Piece] = [
            mark,
            (" ", ink("text")),
            (fit(label, _LABEL), ink("text")),
            (fit(format_bytes(size), _BYTES, right=True), ink("text", bold=True)),
            (fit(share, _SHARE, right=True), ink("dim")),
        ]
        if self._room >= _LEAST_BAR and self._top:
            cells = min(round(size / self._top * self._room), self._room)
            pieces.append((" ", ink("text")))
            pieces.append((glyph(key, ink) * cells or _SLIVER, ink(key)))
        return self._item(rank, *pieces)

    def _totals(self) -> list[_Item]:
        """Three, never one."""
        footprint, sure = self._estimate.footprint, self._estimate.uncertainty
        blank: Piece = (" ", self._ink("text"))
        totals = (
            ("allocated", footprint.peak_allocated_bytes),
            ("reserved", footprint.peak_reserved_bytes),
            ("process", footprint.process_bytes),
        )
        items = [
            self._amount(_ALWAYS, blank, name, size, "accent")
            for name, size in totals
            if name != "reserved" or not self._on_cpu  # there is no allocator that caches
        ]
        span = f"{format_bytes(sure.low_bytes)} to {format_bytes(sure.high_bytes)}"
        method = method_words(footprint, self._estimate.workload.parallel.gpus)
        return items + self._wrapped(_SURE, f"{span} ({method})")

    def _most(self) -> list[_Item]:
        """The largest micro-batch, and the effective batch that it makes."""
        estimate, ink = self._estimate, self._ink
        most, safe = estimate.max_micro_batch, estimate.safe_micro_batch
        if most is None:
            return []
        sure = ""
        if not most:
            words, value = " no batch fits, not even 1", ""
        elif most >= MOST_BATCH:
            words, value = " any micro-batch fits, to at least ", f"{MOST_BATCH:,}"
        else:
            words, value = " largest micro-batch ", f"{most:,}"
            if safe is not None and safe < most:
                sure = f" (surely {safe:,})" if safe else " (none for sure)"
        tone = "text" if most else "error"
        first: tuple[Piece, ...] = (
            (words, ink(tone)),
            (value, ink("accent", bold=True)),
            (sure, ink("dim")),
        )
        ways = accumulations(estimate.workload, safe or most or 0)
        items = [self._item(_ALWAYS, *first)]
        if ways and ways[0].passes > 1:
            items.append(self._item(_SURE, (f" {ways[0]}", ink("dim"))))
        return items

    def _phases(self) -> list[_Item]:
        """What is left after each phase as a solid bar, its peak beyond as a light one."""
        ink, footprint = self._ink, self._estimate.footprint
        room = self._width - 1 - _PHASE - _BYTES - 1
        most = max((phase.peak_bytes for phase in footprint.phases), default=0)
        items: list[_Item] = []
        for phase in footprint.phases:
            is_peak = phase.name == footprint.peak_phase
            cells = round(room * phase.peak_bytes / most) if most else 0
            after = min(round(room * phase.after_bytes / most), cells) if most else 0
            items.append(
                self._item(
                    _PHASES,
                    (fit(f" {phase.name}", _PHASE + 1), ink("text" if is_peak else "dim")),
                    (format_bytes(phase.peak_bytes, _BYTES), ink("text", bold=is_peak)),
                    (" ", ink("text")),
                    ("█" * after, ink("accent")),
                    ("░" * (cells - after), ink("accent")),
                )
            )
        where = PHASE_WORDS.get(footprint.peak_phase, footprint.peak_phase)
        words = f"peak {where}"
        if footprint.peak_module:
            words += f", at {footprint.peak_module}"
        return items + self._wrapped(_PEAK, words)

    def _notes(self) -> list[_Item]:
        notes: Sequence[str] = self._estimate.footprint.notes
        if not self._is_roomy or not notes:
            return []
        return [
            *self._blank(),
            *(item for note in notes for item in self._wrapped(_NOTES, f"note: {note}")),
        ]


def dimmed(strips: Sequence[Strip], ink: Ink) -> list[Strip]:
    """The same lines without colour: an answer to something else than what is asked."""
    style = ink("rule")
    return [line([(strip.text, style)], cell_len(strip.text), style) for strip in strips]
