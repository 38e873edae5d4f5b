"""What the selected process should hold beside what it holds, moment by moment of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from textual.strip import Strip

from ...core.phases import PHASE_LABELS
from ...core.units import NONE_SHOWN, format_bytes, format_delta
from ...draw.blocks import Run
from ...draw.pairs import MARK, one_bar, two_bars
from ...estimator.comparison import (
    Comparison,
    Moment,
    Pair,
    basis_text,
    pair_label,
    share_text,
    verdict_text,
)
from ..frame import Frame
from ..paint import Piece, fit, line, swatch
from ..words import why_no_breakdown, why_no_detail
from .base import Pane, sentences

_HEADS: Final = ("PREDICTED", "ACTUAL", "DELTA", "DELTA %")
_SIZES: Final = (10, 9, 10, 9)
_LABEL: Final = (16, 24)
"""Least and most; a label further from its number is hard to follow."""
_MARK: Final = 3
_MIN_BAR: Final = 10
_FIRST_MOMENT: Final = "peak"
"""It decides about OOM, and stands still where now does not."""


class PredictedPane(Pane):
    """A process on one torch device beside its prediction."""

    TITLE: ClassVar[str] = "Predicted"
    SHORT: ClassVar[str] = "Pred"
    NAME: ClassVar[str] = "predicted"

    def __init__(self) -> None:
        super().__init__()
        self._chosen = _FIRST_MOMENT

    def content(self, frame: Frame, width: int, height: int) -> list[Strip]:
        """Whether it is as predicted, why not, then a pair of bars for each category."""
        process, prediction = frame.process, frame.prediction
        if process is None:
            return sentences(["no process selected"], width, frame)
        if frame.part is None or frame.torch_device is None or prediction is None:
            return sentences(why_no_breakdown(process, frame.view), width, frame)
        comparison = prediction.comparison
        if comparison is None:
            told = []
            if prediction.problem:
                waits = frame.detail is None and process.probe.detail == "pending"
                said = f"no prediction{' yet' * waits}: {prediction.problem}"
                told += sentences([said], width, frame, "dim" if waits else "warn")
            if prediction.progress:
                told += sentences([f"predicting: {prediction.progress}"], width, frame)
            return told
        above = _verdict(frame, comparison, width, is_old=bool(prediction.progress))
        if frame.detail is None:
            above += sentences(why_no_detail(process), width, frame)
        below = sentences([basis_text(comparison.expected)], width, frame)
        below += sentences(comparison.expected.notes, width, frame)
        if prediction.progress:
            below += sentences([f"a newer one: {prediction.progress}"], width, frame)
        moment = self._moment(comparison)
        sums = _sums(frame, comparison, moment)
        room = height - 1 - len(above) - len(below) - len(sums)  # a line of moments
        has_two = room > 2 * len(moment.pairs)
        table = _Table(frame, comparison, moment, width, has_two=has_two)
        lines = [*above, table.heads(moment)]
        for pair in moment.pairs:
            lines += table.category(pair)
        lines += [table.sum(label, pair) for label, pair in sums]
        lines += below
        if len(lines) + 1 < height:
            lines.append(table.legend())
        return lines

    def heads(self, frame: Frame, width: int) -> list[Strip]:
        """The moments to choose from, and how sure the prediction is."""
        comparison = frame.prediction.comparison if frame.prediction else None
        if comparison is None:
            return []
        ink, expected = frame.ink, comparison.expected
        chosen = self._moment(comparison)
        pieces: list[Piece] = [(" ", ink("text"))]
        for moment in comparison.moments:
            if moment is chosen:
                pieces.append((f"[{moment.name}]", ink("accent", bold=True)))
            else:
                pieces.append((f" {moment.name} ", ink("dim")))
        room = width - 1 - sum(len(text) for text, _ in pieces)
        sure = f"{expected.source} ±{100 * expected.uncertainty:.0f} %"
        pieces.append((sure.rjust(room) if len(sure) < room else "", ink("dim")))
        return [line(pieces, width, ink("text"))]

    def title_note(self, frame: Frame) -> str:
        """Which process and device."""
        return frame.place_text

    def move(self, to: str) -> None:
        """Left and right change the moment."""
        comparison = None
        if self._frame is not None and self._frame.prediction is not None:
            comparison = self._frame.prediction.comparison
        if to in {"left", "right"} and comparison is not None:
            names = [moment.name for moment in comparison.moments]
            at = names.index(self._moment(comparison).name) + (1 if to == "right" else -1)
            self._chosen = names[at % len(names)]
            self.rebuild()
        else:
            super().move(to)

    def _moment(self, comparison: Comparison) -> Moment:
        return comparison.moment(self._chosen) or comparison.moments[0]


class _Table:
    """A label, the columns that fit, and the bars, aligned for every kind of line."""

    def __init__(
        self, frame: Frame, comparison: Comparison, moment: Moment, width: int, *, has_two: bool
    ) -> None:
        self._frame, self._ink, self._width = frame, frame.ink, width
        self._device = frame.torch_device or ""
        self._has_two = has_two
        self._expected = expected = comparison.expected
        self._slack_bytes = expected.uncertainty * expected.peak_bytes
        # Now is somewhere within a phase: what it holds beyond the last end says nothing.
        parted = comparison.parted if moment.name != "now" else ()
        self._parted = {pair.category for pair in parted}
        self._top = max(
            max(pair.predicted_bytes or 0, pair.actual_bytes or 0)
            for moment in comparison.moments
            for pair in (*moment.pairs, Pair("", 1, 1))
        )
        """Of all moments, so that their bars can be compared."""
        room = width - _MARK - _LABEL[0] - _MIN_BAR - 2
        self._columns = [i for i in range(len(_HEADS)) if sum(_SIZES[: i + 1]) <= room]
        used = sum(_SIZES[i] for i in self._columns)
        self._label = min(_LABEL[0] + max(room - used, 0) // 4, _LABEL[1])
        self._bar = max(width - _MARK - self._label - used - 2, 0)

    def heads(self, moment: Moment) -> Strip:
        """Which moment it is, and the names of the columns."""
        phase = moment.phase or moment.name
        if moment.name == "peak":
            label = f"in {phase}"
        elif phase == "other":
            label = PHASE_LABELS[phase]
        elif moment.name == "now" and self._device != "cpu":
            label = f"since {phase}"  # counters are of now; without, it is as at the phase's end
        else:
            label = f"after {phase}"
        label = "" if moment.name == "now" and moment.phase is None else label
        ink = self._ink
        pieces: list[Piece] = [(fit(f" {label}", _MARK + self._label), ink("dim"))]
        return self._line([*pieces, *self._cells(_HEADS, ("dim",) * 4)], [])

    def category(self, pair: Pair) -> list[Strip]:
        """A pair with its bars, on one line or on two."""
        ink, label = self._ink, pair_label(pair, self._expected, self._device)
        pieces: list[Piece] = [(" ", ink("text")), swatch(pair.category, ink), (" ", ink("text"))]
        pieces.append((fit(label, self._label), ink("text")))
        pieces += self._pair_cells(pair)
        values = (pair.predicted_bytes, pair.actual_bytes, self._bar, self._top)
        if not self._has_two:
            return [self._line(pieces, self._styled(one_bar(*values), pair.category))]
        predicted, actual = two_bars(*values)
        indent = self._width - self._bar - 2
        return [
            self._line(pieces, self._styled(predicted, pair.category)),
            self._line([(" " * indent, ink("text"))], self._styled(actual, pair.category)),
        ]

    def sum(self, label: str, pair: Pair) -> Strip:
        """A sum of categories, which has no bar."""
        pieces: list[Piece] = [(" " * _MARK, self._ink("dim"))]
        pieces.append((fit(label, self._label), self._ink("accent")))
        return self._line([*pieces, *self._pair_cells(pair)], [])

    def legend(self) -> Strip:
        """What the glyphs of the bars mean."""
        dim = self._ink("dim")
        said = " ░ predicted  █ actual" + ("" if self._has_two else "  ┃ where the predicted ends")
        return line([(said, dim)], self._width, dim)

    def _pair_cells(self, pair: Pair) -> list[Piece]:
        delta = pair.delta_bytes
        is_apart = pair.category in self._parted and abs(delta or 0) > self._slack_bytes
        tone = "warn" if is_apart else "text" if delta else "dim"
        texts = (
            NONE_SHOWN if pair.predicted_bytes is None else format_bytes(pair.predicted_bytes),
            NONE_SHOWN if pair.actual_bytes is None else format_bytes(pair.actual_bytes),
            NONE_SHOWN if delta is None else format_delta(delta),
            NONE_SHOWN if pair.delta_share is None else share_text(pair.delta_share),
        )
        return self._cells(texts, ("dim", "text", tone, tone))

    def _cells(self, texts: Sequence[str], tones: Sequence[str]) -> list[Piece]:
        return [(fit(texts[i], _SIZES[i], right=True), self._ink(tones[i])) for i in self._columns]

    def _line(self, pieces: list[Piece], drawn: list[Piece]) -> Strip:
        return line([*pieces, (" ", self._ink("text")), *drawn], self._width, self._ink("text"))

    def _styled(self, runs: Sequence[Run], category: str) -> list[Piece]:
        ink = self._ink
        on_it = ink("background", category)
        return [(run.text, on_it if run.key == MARK else ink(category)) for run in runs]


def _verdict(frame: Frame, comparison: Comparison, width: int, *, is_old: bool) -> list[Strip]:
    """Whether it is as predicted, and the likely reasons why not.

    ``is_old``: the process has changed since, and what it should hold now is being worked out.
    """
    if is_old and comparison.differs:
        return sentences(["the process has changed: its prediction is made anew"], width, frame)
    said = verdict_text(comparison, frame.torch_device or "")
    if not comparison.differs:
        if not comparison.is_judged:
            return sentences([said], width, frame)
        return sentences([f"✓ {said}"], width, frame, "good")
    lines = sentences([f"≠ {said}"], width, frame, "warn")
    return lines + sentences([f"→ {r.text}" for r in comparison.reasons], width, frame, "text")


def _sums(frame: Frame, comparison: Comparison, moment: Moment) -> list[tuple[str, Pair]]:
    held = "tensors" if frame.torch_device == "cpu" else "allocated"
    sums = [(held, moment.total)]
    peak = comparison.moment("peak")
    if peak is not None and peak is not moment:
        sums.append(("peak of the step", peak.total))
    return sums
