"""The curve over the batch: layers, ceiling, cliff, cursor, what was seen, and the fall."""

from __future__ import annotations

from typing import Final

from rich.cells import cell_len
from textual import events
from textual.message import Message
from textual.strip import Strip

from ...core.units import format_bytes
from ...draw.blocks import part_glyph
from ...draw.curve import EDGE, Curve, Dot, curve, put, row_of, runs, scale
from ...draw.scale import byte_ticks
from ...draw.tones import COMPONENT_TONES
from ...estimator.explore_words import each_words, oom_words
from ...estimator.labels import component_label
from ...estimator.sweep import LAYERS, Sweep
from ..paint import Piece, fit, line, styled, swatch
from ..picture import Picture
from ..theme import SEGMENT_POSITIONS
from .picture_canvas import PictureCanvas

_AXIS: Final = 10
_BELOW: Final = 3
"""The axis, its labels, the legend."""
TONES: Final = tuple(COMPONENT_TONES.get(name, name) for name in LAYERS)
GLYPHS: Final = tuple(part_glyph(SEGMENT_POSITIONS[tone]) for tone in TONES)
_SPIN: Final = "◐◓◑◒"


class BatchCurve(PictureCanvas):
    """The curve of the cursor's sequence; a click moves the cursor."""

    class Moved(Message):
        """A batch was clicked."""

        def __init__(self, batch: int) -> None:
            super().__init__()
            self.batch = batch

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._still: tuple[object, ...] = ()
        """What the dots below the fall were made of; they are kept as long as it is the same."""
        self._dots: list[list[Dot]] = []

    def draw(self, picture: Picture) -> None:
        """Paint it."""
        width, height = self.size.width - _AXIS, self.size.height - 1 - _BELOW
        if width < 10 or height < 3:
            return
        scene, sweep = picture.scene, picture.sweep
        top, ceiling = _scale(sweep)
        act = "" if scene is None else scene.act
        seen = picture.exploration.observed
        still = (sweep, width, height, picture.batch, act == "climb", picture.ink, seen)
        if still != self._still:
            self._dots = _dots(picture, width, height, climbing=act == "climb")
        elif act == "climb":
            return  # only gauge and phases move while a batch is climbed
        self._still = still
        dots = self._dots
        if scene is not None and scene.act != "climb":
            dots = _with_fall(picture, [list(row) for row in dots], top)
        self.paint(
            [
                _title(picture, self.size.width),
                *_plot(picture, dots, top, ceiling, self.size.width),
                *_axis(picture, width, self.size.width),
                _legend(picture, self.size.width),
            ]
        )

    def on_click(self, event: events.Click) -> None:
        """Move to the batch of the column."""
        if self.picture is not None and event.x >= _AXIS:
            width = self.size.width - _AXIS
            self.post_message(self.Moved(self.picture.sweep.batch_of(event.x - _AXIS, width)))


def _scale(sweep: Sweep) -> tuple[float, float | None]:
    most = sweep.at(sweep.last).process_bytes
    return scale(most, sweep.usable_bytes, sweep.has_cliff)


def _dots(picture: Picture, width: int, height: int, *, climbing: bool) -> list[list[Dot]]:
    sweep, ink = picture.sweep, picture.ink
    top, ceiling = _scale(sweep)
    batches = [sweep.batch_of(column, width) for column in range(width)]
    layers = {batch: sweep.layers(batch) for batch in dict.fromkeys(batches)}
    beyond = next((x for x, batch in enumerate(batches) if sweep.is_beyond(batch)), None)
    cursor = sweep.middle_of(picture.batch, width)
    drawn = Curve(
        [layers[batch] for batch in batches],
        TONES,
        top,
        ceiling,
        beyond,
        GLYPHS if ink.mono else (),
        cursor,
        sweep.column_of(picture.batch + 1, width) if climbing else None,
    )
    dots = curve(drawn, height)
    for seen in sweep.seen(picture.exploration.observed):
        x = sweep.middle_of(seen.batch, width)
        glyph = "●" if seen.same_sequence else "○"
        put(dots, row_of(seen.process_bytes, height, top), x, glyph, "text")
    home = picture.explored.workload
    if picture.place.sequence == home.sequence and home.batch <= sweep.last:
        y = row_of(sweep.at(home.batch).process_bytes, height, top)
        put(dots, y, sweep.middle_of(home.batch, width), "◆", "text")
    return dots


def _with_fall(picture: Picture, dots: list[list[Dot]], top: float) -> list[list[Dot]]:
    """The request that is refused: over the edge, then down to the ground."""
    scene, sweep = picture.scene, picture.sweep
    over = picture.explored.fall(picture.place.sequence)
    if scene is None or over is None or sweep.usable_bytes is None:
        return dots
    height, width = len(dots), len(dots[0])
    edge = sweep.column_of(over.batch, width)
    said = format_bytes(over.requested_bytes)
    fallen = scene.fallen
    mark = "+" if fallen is None else "×" if fallen >= 1 else _SPIN[int(fallen * 14) % 4]
    box = f" {mark}{said} "
    last = width - len(box)
    begin = min(max(edge - len(box) // 2, 0), last)
    ledge = max(row_of(sweep.usable_bytes, height, top) - 1, 0)
    share = fallen or 0.0
    x = begin + round((last - begin) * min(share * 1.2, 1.0))
    y = ledge + round((height - 1 - ledge) * share * share)
    if fallen is None and not scene.request_is_lit:
        put(dots, y, x, box, EDGE)
    else:
        put(dots, y, x, box, "background", "error")
    if fallen is not None or scene.request_is_lit:
        banner = f" {oom_words(over)} "
        row = ledge // 2 if ledge > 1 else min(ledge + 2, height - 1)
        put(dots, row, max((edge - len(banner)) // 2, 0), banner, "background", "error")
    return dots


def _title(picture: Picture, width: int) -> Strip:
    ink, sweep = picture.ink, picture.sweep
    if picture.exploration.notice:
        notice = fit(f" {picture.exploration.notice}", width)
        return line([(notice, ink("warn"))], width, ink("dim"))
    text = f"process memory over the micro-batch, {each_words(sweep.workload)}"
    others = picture.exploration.others_bytes
    if others:
        text += f" · other processes hold {format_bytes(others)}, taken off"
    usable = sweep.usable_bytes
    if usable is not None and _scale(sweep)[1] is None:
        text += f" · ceiling at {format_bytes(usable)}, far above"
    if picture.place.sequence != picture.explored.workload.sequence:
        text += " · by formula"
    return line([(f" {text}", ink("dim"))], width, ink("dim"))


def _plot(
    picture: Picture, dots: list[list[Dot]], top: float, ceiling: float | None, width: int
) -> list[Strip]:
    ink, height = picture.ink, len(dots)
    labels: dict[int, str] = {}
    for value, text in byte_ticks(top, min(max(height // 2, 1), 6)):
        labels.setdefault(min(max(height - 1 - round(value / top * height), 0), height - 1), text)
    limit = None
    if ceiling is not None:
        limit = row_of(ceiling, height, top)
        for y in (limit - 1, limit + 1):
            labels.pop(y, None)
        labels[limit] = format_bytes(int(ceiling))
    strips = []
    for y, row in enumerate(dots):
        tone = "warn" if y == limit else "dim"
        pieces: list[Piece] = [
            (f"{labels.get(y, ''):>{_AXIS - 1}}", ink(tone, bold=y == limit)),
            ("┤" if y in labels else "│", ink("warn" if y == limit else "rule")),
            *styled(runs(row), ink),
        ]
        strips.append(line(pieces, width, ink("text")))
    return strips


def _axis(picture: Picture, width: int, whole: int) -> list[Strip]:
    """The axis with the cursor on it, and labels below."""
    ink, sweep = picture.ink, picture.sweep
    cursor = sweep.middle_of(picture.batch, width)
    axis: list[Piece] = [
        (" " * (_AXIS - 1) + "└" + "─" * cursor, ink("rule")),
        ("▲", ink("accent", bold=True)),
        ("─" * (width - cursor - 1), ink("rule")),
    ]
    home = picture.explored.workload
    wanted = [(picture.batch, str(picture.batch), "accent")]
    if sweep.largest and sweep.largest <= sweep.last:
        label = f"{sweep.largest} max"
        if picture.batch == sweep.largest:
            wanted[0] = (sweep.largest, label, "accent")
        else:
            wanted.append((sweep.largest, label, "text"))
    word = "now" if picture.exploration.live else "asked"
    wanted.append((home.batch, f"◆ {home.batch} {word}", "text"))
    wanted += [(1, "1", "dim"), (sweep.last, str(sweep.last), "dim")]
    taken: list[tuple[int, int, str, str]] = []
    for batch, label, tone in wanted:
        start = sweep.middle_of(batch, width) - cell_len(label) // 2
        start = min(max(start, 0), width - cell_len(label))
        end = start + cell_len(label)
        if batch <= sweep.last and all(end < a or start > b for a, b, _, _ in taken):
            taken.append((start, end, label, tone))
    pieces: list[Piece] = [(" " * _AXIS, ink("dim"))]
    used = 0
    for start, end, label, tone in sorted(taken):
        pieces += [(" " * (start - used), ink("dim")), (label, ink(tone, bold=tone == "accent"))]
        used = end
    return [line(axis, whole, ink("rule")), line(pieces, whole, ink("dim"))]


def _legend(picture: Picture, width: int) -> Strip:
    """The layers that are there, those that grow first."""
    ink, footprint = picture.ink, picture.footprint
    pieces: list[Piece] = []
    used = 0
    for name in reversed(LAYERS):
        if footprint.components[name] * 200 < footprint.process_bytes:
            continue
        label = component_label(name, picture.sweep.workload.backend).split(",")[0]
        if used + len(label) + 4 > width:
            continue
        mark = swatch(COMPONENT_TONES.get(name, name), ink)
        pieces += [(" ", ink("dim")), mark, (f" {label} ", ink("dim"))]
        used += len(label) + 4
    if picture.exploration.observed and used + 8 <= width:
        pieces += [(" ●", ink("text")), (" seen ", ink("dim"))]
    return line(pieces, width, ink("dim"))
