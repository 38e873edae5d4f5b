"""The point under the cursor: its verdict, three totals, phases, and what makes its bytes."""

from __future__ import annotations

from typing import Final

from textual.strip import Strip

from ...core.units import format_bytes, format_percent
from ...draw.spans import span_bar
from ...draw.tones import COMPONENT_TONES
from ...estimator.accumulation import effective_batch
from ...estimator.explore_words import (
    VERDICT_TONES,
    VERDICT_WORDS,
    each_words,
    fall_words,
    room_words,
)
from ...estimator.labels import component_label
from ...estimator.result import COMPONENTS, PhaseUse
from ..paint import Piece, fit, line, styled, swatch
from ..picture import Picture
from .picture_canvas import PictureCanvas

_NAME: Final = 11
_SIZE: Final = 10
_WIDE_LINES: Final = 14
"""From which there is room for all: lines of a column of its own."""


class PointPanel(PictureCanvas):
    """A column beside the curve, or a few lines below it."""

    def draw(self, picture: Picture) -> None:
        """Paint it."""
        width, height = self.size.width, self.size.height
        if height >= _WIDE_LINES:
            lines = [
                *head_lines(picture, width),
                _blank(picture, width),
                *total_lines(picture, width),
                _blank(picture, width),
                *phase_lines(picture, width),
                _blank(picture, width),
                *_more(picture, width),
            ]
            lines += [_blank(picture, width), *component_lines(picture, width)]
        else:
            lines = [
                *head_lines(picture, width),
                _totals_line(picture, width),
                _phases_line(picture, width),
                *_more(picture, width),
            ]
        self.paint(lines[:height])


def _blank(picture: Picture, width: int) -> Strip:
    return line([], width, picture.ink("text"))


def head_lines(picture: Picture, width: int) -> list[Strip]:
    """Which point it is, and whether it fits."""
    ink, sweep, batch = picture.ink, picture.sweep, picture.batch
    footprint = picture.footprint
    verdict = sweep.verdict(footprint)
    where = f" batch {batch} × {each_words(sweep.workload)}"
    pieces: list[Piece] = [(where, ink("text", bold=True))]
    if verdict is None:
        return [line(pieces, width, ink("text"))]
    if verdict != "oom" and sweep.is_beyond(batch):
        word, tone = "OOM LIKELY", "error"
    else:
        word, tone = VERDICT_WORDS[verdict], VERDICT_TONES[verdict]
    chip: Piece = (f" {word} ", ink("background", tone, bold=True))
    room = f"  {room_words(sweep, batch, footprint)}"
    if len(where) + len(word) + len(room) + 4 <= width:
        pieces += [("  ", ink("text")), chip, (room, ink("dim"))]
        return [line(pieces, width, ink("text"))]
    pieces += [("  ", ink("text")), chip]
    below = f" {room.strip()}"
    return [line(pieces, width, ink("text")), line([(below, ink("dim"))], width, ink("dim"))]


def _totals(picture: Picture) -> list[tuple[str, int, str]]:
    """Name, bytes and source of each total; on the CPU there is no allocator to reserve any."""
    footprint = picture.footprint
    if picture.sweep.workload.backend == "cpu":
        return [
            ("tensors", footprint.peak_allocated_bytes, "at the peak"),
            ("process", footprint.process_bytes, "resident memory"),
        ]
    return [
        ("allocated", footprint.peak_allocated_bytes, "by tensors, at the peak"),
        ("reserved", footprint.peak_reserved_bytes, "by PyTorch's allocator"),
        ("process", footprint.process_bytes, "what nvidia-smi shows"),
    ]


def total_lines(picture: Picture, width: int) -> list[Strip]:
    """The totals, one a line."""
    ink = picture.ink
    return [
        line(
            [
                (fit(f" {name}", _NAME), ink("dim")),
                (fit(format_bytes(size), _SIZE, right=True), ink("text", bold=True)),
                (f"  {about}", ink("dim")),
            ],
            width,
            ink("text"),
        )
        for name, size, about in _totals(picture)
    ]


def _totals_line(picture: Picture, width: int) -> Strip:
    ink = picture.ink
    pieces: list[Piece] = []
    for name, size, _ in _totals(picture):
        pieces += [(f" {name} ", ink("dim")), (f"{format_bytes(size)}  ", ink("text"))]
    return line(pieces, width, ink("text"))


def phase_lines(picture: Picture, width: int) -> list[Strip]:
    """The phases of a step on one scale: what is left after each, its peak beyond."""
    ink, footprint, scene = picture.ink, picture.footprint, picture.scene
    if not footprint.phases:
        said = " only the peak is known, not the phases of a step"
        return [line([(fit(said, width), ink("dim"))], width, ink("dim"))]
    top = max(phase.peak_bytes for phase in footprint.phases)
    room = width - _NAME - 2 * _SIZE - 2
    heads = fit(" phase", _NAME) + fit("after", _SIZE, right=True) + fit("peak", _SIZE, right=True)
    lines = [line([(heads, ink("dim"))], width, ink("dim"))]
    for phase in footprint.phases:
        is_played = scene is not None and scene.phase == phase.name
        is_peak = phase.name == footprint.peak_phase
        runs = span_bar(phase.after_bytes, room, top, phase.peak_bytes, top)
        name_tone = "accent" if is_played else "text"
        pieces: list[Piece] = [
            (fit(f"{'▸' if is_played else ' '}{phase.name}", _NAME), ink(name_tone)),
            (fit(format_bytes(phase.after_bytes), _SIZE, right=True), ink("dim")),
            (
                fit(format_bytes(phase.peak_bytes), _SIZE, right=True),
                ink("warn" if is_peak else "text"),
            ),
            ("  ", ink("text")),
        ]
        if scene is not None and scene.phase:
            pieces += _played(picture, phase, room, top)
        else:
            pieces += styled(runs, ink)
        lines.append(line(pieces, width, ink("text")))
    return lines


def _played(picture: Picture, phase: PhaseUse, room: int, top: int) -> list[Piece]:
    """The bar of a phase while it plays: as full as the moment is."""
    scene, ink = picture.scene, picture.ink
    assert scene is not None
    names = [one.name for one in picture.footprint.phases]
    now = names.index(scene.phase) if scene.phase in names else 0
    at = names.index(phase.name)
    if at > now:
        return [("·" * room, ink("rule"))]
    held = scene.allocated_bytes if at == now else phase.after_bytes
    cells = min(round(held / top * room), room) if top else 0
    tone = "error" if scene.request_is_lit else "accent" if at == now else "dim"
    return [("█" * cells if at == now else "▬" * cells, ink(tone))]


def _phases_line(picture: Picture, width: int) -> Strip:
    ink, scene = picture.ink, picture.scene
    pieces: list[Piece] = []
    for phase in picture.footprint.phases:
        if phase.name == "load":
            continue
        is_played = scene is not None and scene.phase == phase.name
        is_peak = phase.name == picture.footprint.peak_phase
        size = phase.peak_bytes
        if is_played and scene is not None:
            size = scene.allocated_bytes
        mark = "▸" if is_played else " "
        pieces += [
            (f"{mark}{phase.name} ", ink("accent" if is_played else "dim", bold=is_played)),
            (f"{format_bytes(size)} ", ink("warn" if is_peak else "text")),
        ]
    return line(pieces, width, ink("text"))


def _more(picture: Picture, width: int) -> list[Strip]:
    """How the batch behind the cliff dies, else the effective batch here."""
    from textwrap import wrap

    ink, scene = picture.ink, picture.scene
    over = picture.explored.fall(picture.place.sequence)
    shows_fall = scene is not None and scene.act != "climb"
    if over is not None and (shows_fall or picture.sweep.is_beyond(picture.batch)):
        parts = wrap(fall_words(over), max(width - 4, 10))
        return [
            line([(f" {'  ' if n else '× '}{part}", ink("error"))], width, ink("error"))
            for n, part in enumerate(parts)
        ]
    workload = picture.sweep.workload
    if not workload.training:
        return []
    here = effective_batch(workload.with_batch(picture.batch))
    text = f" effective batch {here}"
    if workload.grad_accumulation > 1 or workload.parallel.data > 1:
        text += f" = {picture.batch}"
        if workload.grad_accumulation > 1:
            text += f" × {workload.grad_accumulation} accumulation"
        if workload.parallel.data > 1:
            text += f" × {workload.parallel.data} GPUs"
    return [line([(text, ink("dim"))], width, ink("dim"))]


def component_lines(picture: Picture, width: int) -> list[Strip]:
    """What the bytes at the peak are for, the largest bars the widest."""
    ink, footprint = picture.ink, picture.footprint
    total, backend = max(footprint.process_bytes, 1), picture.sweep.workload.backend
    lines = [line([(" at the peak", ink("dim"))], width, ink("dim"))]
    for name in COMPONENTS:
        size = footprint.components[name]
        if not size:
            continue
        pieces: list[Piece] = [
            (" ", ink("text")),
            swatch(COMPONENT_TONES.get(name, name), ink),
            (fit(f" {component_label(name, backend)}", 24), ink("text")),
            (fit(format_bytes(size), _SIZE, right=True), ink("text")),
            (fit(format_percent(100 * size / total, 0), 6, right=True), ink("dim")),
        ]
        lines.append(line(pieces, width, ink("text")))
    return lines
