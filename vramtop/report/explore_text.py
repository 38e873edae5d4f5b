"""The batch explorer as text and JSON: the maximum, the curve with its cliff, the map."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ..core.devices import SEGMENT_LABELS
from ..core.units import format_bytes
from ..draw.blocks import Run, part_glyph
from ..draw.curve import Curve, curve, put, row_of, runs, scale
from ..draw.digits import big_digits
from ..draw.heat import ASCII_GLYPHS, CELL, GLYPHS, heat_row
from ..draw.scale import byte_ticks
from ..draw.tones import COMPONENT_TONES
from ..estimator.accumulation import accumulations
from ..estimator.explore_words import (
    VERDICT_TONES,
    each_words,
    effective_words,
    fall_words,
    maximum_digits,
    maximum_words,
    method_words,
    sure_words,
)
from ..estimator.explored import Explored, Place
from ..estimator.grid import Grid
from ..estimator.labels import COMPONENT_LABELS
from ..estimator.result import Estimate, Predictor
from ..estimator.sweep import LAYERS, Sweep
from . import estimate_json
from .ansi import Line, Look, Span, paint
from .estimate_text import title_lines, total_lines

_HEIGHT: Final = 14
_MOST_WIDTH: Final = 120
_AXIS: Final = 10
_LABEL: Final = 9
_JSON_BATCHES: Final = 24
_TONES: Final = tuple(COMPONENT_TONES.get(name, name) for name in LAYERS)
_POSITIONS: Final = tuple(list(SEGMENT_LABELS).index(tone) for tone in _TONES)


def render(estimate: Estimate, predictor: Predictor, look: Look) -> str:
    """The verdict, the maximum, the curve and the map, in lines of at most ``look.width``."""
    explored = Explored(estimate, predictor)
    return paint(_lines(estimate, explored, look), look)


def to_object(estimate: Estimate, predictor: Predictor) -> dict[str, Any]:
    """``vramtop.estimate/1`` with ``sweep`` (layers by batch), ``fall``, ``map``, accumulations."""
    explored = Explored(estimate, predictor)
    sweep = explored.home
    here = Place(estimate.workload.batch, estimate.workload.sequence)
    over = explored.fall(here.sequence)
    grid = explored.grid(_JSON_BATCHES)
    batches = dict.fromkeys(batch for batch, _ in estimate.curve)
    return {
        **estimate_json.to_json(estimate),
        "sweep": [
            {
                "batch": batch,
                "verdict": sweep.verdict(footprint),
                "runs": not sweep.is_beyond(batch),
                "process_bytes": footprint.process_bytes,
                "components": {f"{name}_bytes": footprint.components[name] for name in LAYERS},
            }
            for batch, footprint in ((batch, sweep.at(batch)) for batch in batches)
        ],
        "fall": None
        if over is None
        else {
            "batch": over.batch,
            "phase": over.phase,
            "module": over.module,
            "requested_bytes": over.requested_bytes,
            "free_bytes": over.free_bytes if over.is_replayed else None,
            "process_bytes": over.process_bytes,
        },
        "effective_batches": [
            {
                "effective_batch": way.effective,
                "micro_batch": way.micro,
                "grad_accumulation": way.passes,
                "gpus": way.gpus,
            }
            for way in explored.accumulations(here)
        ],
        "map": None
        if grid is None
        else {
            "batches": list(grid.batches),
            "sequences": list(grid.sequences),
            "rows": [
                [
                    None
                    if square is None
                    else {"verdict": square.verdict, "process_bytes": square.process_bytes}
                    for square in row
                ]
                for row in grid.rows
            ],
        },
    }


def _lines(estimate: Estimate, explored: Explored, look: Look) -> Iterator[Line]:
    sweep = explored.home
    yield from title_lines(estimate.workload, look)
    yield ()
    yield from total_lines(estimate, look)
    yield ()
    yield from _maximum(sweep, look)
    yield ()
    yield from _curve(sweep, look)
    over = explored.fall(sweep.workload.sequence)
    if over is not None:
        mark = "x " if look.ascii else "× "
        for text in textwrap.wrap(mark + fall_words(over), look.width, subsequent_indent="  "):
            yield (Span(text, "error"),)
    grid = explored.grid((min(look.width, _MOST_WIDTH) - _LABEL) // CELL)
    if grid is not None and len(grid.sequences) > 1:
        yield ()
        yield from _map(explored, grid, look)


def _maximum(sweep: Sweep, look: Look) -> Iterator[Line]:
    workload = sweep.workload
    footprint = sweep.at(workload.batch)
    sure = (sure_words(sweep), method_words(footprint, workload.parallel.gpus))
    said = [maximum_words(sweep), " · ".join(filter(None, sure))]
    ways = accumulations(workload, sweep.safe or sweep.largest or 0)
    tone = "good" if sweep.safe else "warn" if sweep.largest else "error"
    digits = big_digits(maximum_digits(sweep), ascii=look.ascii)
    room = look.width - len(digits[0]) - 4
    said.append(effective_words(ways, room))
    for y, drawn in enumerate(digits):
        text = said[y][:room] if y < len(said) else ""
        yield (Span(f" {drawn}   ", tone), Span(text, "strong" if y == 0 else ""))


def _curve(sweep: Sweep, look: Look) -> Iterator[Line]:
    width = min(look.width, _MOST_WIDTH) - _AXIS
    most = sweep.at(sweep.last).process_bytes
    top, ceiling = scale(most, sweep.usable_bytes, sweep.has_cliff)
    plain = look.mono or look.ascii
    batches = [sweep.batch_of(column, width) for column in range(width)]
    layers = {batch: sweep.layers(batch) for batch in dict.fromkeys(batches)}
    drawn = Curve(
        [layers[batch] for batch in batches],
        _TONES,
        top,
        ceiling,
        next((x for x, batch in enumerate(batches) if sweep.is_beyond(batch)), None),
        tuple(part_glyph(position, look.ascii) for position in _POSITIONS) if plain else (),
    )
    dots = curve(drawn, _HEIGHT, look.ascii)
    asked = sweep.workload.batch
    if asked <= sweep.last:
        y = row_of(sweep.at(asked).process_bytes, _HEIGHT, top)
        put(dots, y, sweep.middle_of(asked, width), "*" if look.ascii else "◆", "text")
    yield (Span(f"process memory over the micro-batch, {each_words(sweep.workload)}", "dim"),)
    labels = {}
    for value, text in byte_ticks(top, 5):
        labels[min(max(_HEIGHT - 1 - round(value / top * _HEIGHT), 0), _HEIGHT - 1)] = text
    if ceiling is not None:
        limit = row_of(ceiling, _HEIGHT, top)
        labels.pop(limit - 1, None)
        labels.pop(limit + 1, None)
        labels[limit] = format_bytes(int(ceiling))
    for y, row in enumerate(dots):
        side = ("+" if look.ascii else "┤") if y in labels else "|" if look.ascii else "│"
        yield (Span(f"{labels.get(y, ''):>{_AXIS - 1}}{side}", "dim"), *_spans(runs(row)))
    yield (Span(" " * _AXIS + _axis(sweep, width, look), "dim"),)
    yield _legend(sweep, look)


def _spans(drawn: Sequence[Run]) -> list[Span]:
    return [Span(run.text, "" if run.key == "text" else run.key, run.under or "") for run in drawn]


def _axis(sweep: Sweep, width: int, look: Look) -> str:
    """Labels of the batch asked for, the largest, the first and the last, as far as they fit."""
    asked, cells = sweep.workload.batch, [" "] * width
    marks = [(asked, f"{'*' if look.ascii else '◆'} {asked} asked")]
    if sweep.largest and sweep.largest != asked:
        marks.insert(0, (sweep.largest, f"{sweep.largest} max"))
    for batch, label in (*marks, (1, "1"), (sweep.last, str(sweep.last))):
        if batch > sweep.last:
            continue
        start = sweep.middle_of(batch, width) - len(label) // 2
        start = min(max(start, 0), width - len(label))
        if all(cell == " " for cell in cells[max(start - 1, 0) : start + len(label) + 1]):
            cells[start : start + len(label)] = label
    return "".join(cells)


def _legend(sweep: Sweep, look: Look) -> Line:
    """The layers that can be seen anywhere, from the top down."""
    spans = [Span(" " * _AXIS)]
    used = _AXIS
    shown = [sweep.at(batch) for batch in (1, sweep.workload.batch, sweep.largest or 1)]
    for place, name in reversed(list(enumerate(LAYERS))):
        label = COMPONENT_LABELS[name].split(",")[0]
        if used + len(label) + 4 > look.width:
            continue
        if any(one.components[name] * 100 > one.process_bytes for one in shown):
            plain = look.mono or look.ascii
            glyph = part_glyph(_POSITIONS[place], look.ascii) if plain else "■"
            spans += [Span(glyph, _TONES[place]), Span(f" {label}  ", "dim")]
            used += len(label) + 4
    return spans


def _map(explored: Explored, grid: Grid, look: Look) -> Iterator[Line]:
    workload, usable = explored.workload, explored.home.usable_bytes or 1
    glyphs = ASCII_GLYPHS if look.ascii else GLYPHS
    words = {"fits": "fits", "tight": "tight", "oom": "out of memory"}
    yield (Span("share of what can be used, by batch and tokens", "dim"),)
    heads = "".join(f"{batch:>{CELL - 1},} " for batch in grid.batches)
    yield (Span(" " * _LABEL + heads, "dim"),)
    for sequence, row in reversed(list(zip(grid.sequences, grid.rows, strict=True))):
        here = None
        if sequence == workload.sequence and workload.batch in grid.batches:
            here = grid.batches.index(workload.batch)
        squares = [(one.verdict, one.process_bytes / usable) if one else None for one in row]
        yield (
            Span(f"{sequence:>{_LABEL - 1},} ", "" if here is not None else "dim"),
            *_spans(heat_row(squares, present=here, ascii=look.ascii)),
        )
    yield (
        Span(" " * _LABEL),
        *(Span(f"{glyphs[name]} {word}  ", VERDICT_TONES[name]) for name, word in words.items()),
    )
    yield (
        Span(f"{workload.sequence:,} tokens as predicted, the others by formula, less sure", "dim"),
    )
