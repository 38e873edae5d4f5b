"""The climb to the cliff as a script: time in, what is shown out; no clock, no drawing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ..estimator.fall import Fall, fall
from ..estimator.result import Footprint
from ..estimator.sweep import Sweep

Act = Literal["climb", "flash", "fall", "rest"]

_MOST_BATCHES: Final = 14
_CLIMB_S: Final = 9.0
"""The whole climb."""
_LEAST_BEAT_S: Final = 0.45
_MOST_BEAT_S: Final = 1.2
_APPROACH_S: Final = 1.2
"""The batch that dies, up to the request that finds no memory."""
_FLASH_S: Final = 1.2
_FALL_S: Final = 1.4
_FLASHES: Final = 4
_LENGTHS: Final = {"forward": 0.35, "backward": 0.4, "step": 0.15, "zero_grad": 0.1}
"""Shares of a beat; phases of an inference share it evenly."""
_FULLEST: Final = {"forward": 0.9, "backward": 0.2, "step": 0.5, "zero_grad": 0.0}
"""Where in a phase it is fullest."""
_NOT_PLAYED: Final = "load"


@dataclass(frozen=True, slots=True)
class Stroke:
    """One phase of one batch: bytes at its beginning, at its fullest moment, at its end."""

    name: str
    begin_s: float
    length_s: float
    before_bytes: int
    peak_bytes: int
    after_bytes: int

    def bytes_at(self, at_s: float) -> int:
        """Allocated bytes at a time within it."""
        done = self.done(at_s)
        turn = _FULLEST.get(self.name, 0.9)
        if done <= turn:
            share, low, high = (done / turn if turn else 1.0), self.before_bytes, self.peak_bytes
        else:
            share, low, high = (done - turn) / (1 - turn), self.peak_bytes, self.after_bytes
        return round(low + (high - low) * share)

    def done(self, at_s: float) -> float:
        """The share of it that is over, 0 to 1."""
        return min(max((at_s - self.begin_s) / self.length_s, 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Beat:
    """One batch size."""

    batch: int
    footprint: Footprint
    begin_s: float
    length_s: float
    strokes: tuple[Stroke, ...]


@dataclass(frozen=True, slots=True)
class Script:
    """The whole play of one sweep."""

    beats: tuple[Beat, ...]
    """The last is the one that dies, where there is a cliff."""
    fall: Fall | None
    resting: Footprint | None
    """Of the batch that it ends with; None where no batch runs."""
    rest_batch: int
    """0 where no batch runs."""
    flash_s: float
    """When the request is refused; without a cliff the end."""
    end_s: float


@dataclass(frozen=True, slots=True)
class Scene:
    """What is shown at one time."""

    act: Act
    batch: int
    footprint: Footprint
    """Of that batch."""
    phase: str
    """"" at rest."""
    phase_done: float
    allocated_bytes: int
    """At this moment; at rest the peak."""
    reserved_bytes: int
    """The cache keeps what this batch has reserved."""
    request_is_lit: bool = False
    """The request that does not fit, flashing."""
    fallen: float | None = None
    """How far it has tumbled, 0 to 1; None before."""

    @property
    def process_bytes(self) -> int:
        """What the process holds now."""
        return self.reserved_bytes + self.footprint.components["context"]


def script(sweep: Sweep) -> Script:
    """The play of a sweep: up to the largest batch that runs, over the cliff, and back."""
    over = fall(sweep)
    top = sweep.last if sweep.largest is None else min(sweep.largest, sweep.last)
    batches = _climbed(top)
    beat_s = _LEAST_BEAT_S
    if batches:
        beat_s = min(max(_CLIMB_S / len(batches), _LEAST_BEAT_S), _MOST_BEAT_S)
    beats = [
        _beat(batch, sweep.at(batch), place * beat_s, beat_s) for place, batch in enumerate(batches)
    ]
    now = len(beats) * beat_s
    resting = sweep.at(top) if batches else None
    if over is None:
        return Script(tuple(beats), None, resting, top, now, now)
    beats.append(_dying(over, sweep.at(over.batch), sweep.usable_bytes or 0, now))
    flash = now + _APPROACH_S
    return Script(tuple(beats), over, resting, top, flash, flash + _FLASH_S + _FALL_S)


def scene(play: Script, at_s: float) -> Scene:
    """What is shown ``at_s`` seconds after the beginning; from the end on it rests."""
    if at_s >= play.end_s:
        return resting(play)
    beats = play.beats
    beat = beats[max(bisect_right([one.begin_s for one in beats], at_s) - 1, 0)]
    strokes = beat.strokes
    place = max(bisect_right([one.begin_s for one in strokes], at_s) - 1, 0)
    stroke = strokes[place]
    allocated = stroke.bytes_at(min(at_s, beat.begin_s + beat.length_s))
    reserved = max(_reserved(beat.footprint, strokes[:place], stroke, at_s), allocated)
    act: Act = "climb"
    lit, fallen = False, None
    if play.fall is not None and at_s >= play.flash_s:
        act, since = "flash", at_s - play.flash_s
        lit = int(since / _FLASH_S * 2 * _FLASHES) % 2 == 0
        if since >= _FLASH_S:
            act, lit, fallen = "fall", True, (since - _FLASH_S) / _FALL_S
    return Scene(
        act,
        beat.batch,
        beat.footprint,
        stroke.name,
        stroke.done(at_s),
        allocated,
        reserved,
        lit,
        fallen,
    )


def resting(play: Script) -> Scene:
    """The last picture, which is also the only one where motion is not wanted."""
    shown = play.resting or play.beats[-1].footprint
    return Scene(
        "rest",
        play.rest_batch or play.beats[-1].batch,
        shown,
        "",
        1.0,
        shown.peak_allocated_bytes,
        shown.peak_reserved_bytes,
        fallen=None if play.fall is None else 1.0,
    )


def _climbed(top: int) -> list[int]:
    """Batches from 1 to the top: all of few, else in steps that grow."""
    if top <= _MOST_BATCHES:
        return list(range(1, top + 1))
    factor = top ** (1 / (_MOST_BATCHES - 1))
    return sorted({*(round(factor**place) for place in range(_MOST_BATCHES)), 1, top})


def _beat(batch: int, footprint: Footprint, begin_s: float, length_s: float) -> Beat:
    phases = [phase for phase in footprint.phases if phase.name != _NOT_PLAYED]
    even = 1 / max(len(phases), 1)
    lengths = [_LENGTHS.get(phase.name, even) for phase in phases]
    if not phases:  # where only a peak is known (fitted)
        peak = footprint.peak_allocated_bytes
        stroke = Stroke(footprint.peak_phase, begin_s, length_s, 0, peak, 0)
        return Beat(batch, footprint, begin_s, length_s, (stroke,))
    held = phases[-1].after_bytes  # steps follow each other
    if "zero_grad" not in [phase.name for phase in phases]:
        held = next((p.after_bytes for p in footprint.phases if p.name == _NOT_PLAYED), 0)
    strokes = []
    at_s = begin_s
    for phase, share in zip(phases, lengths, strict=True):
        seconds = length_s * share / sum(lengths)
        strokes.append(Stroke(phase.name, at_s, seconds, held, phase.peak_bytes, phase.after_bytes))
        at_s, held = at_s + seconds, phase.after_bytes
    return Beat(batch, footprint, begin_s, length_s, tuple(strokes))


def _dying(over: Fall, footprint: Footprint, usable_bytes: int, begin_s: float) -> Beat:
    """The phases up to the one that dies, which stops under the ceiling."""
    whole = _beat(over.batch, footprint, 0.0, 1.0).strokes
    names = [stroke.name for stroke in whole]
    kept = whole[: names.index(over.phase) + 1] if over.phase in names else whole
    room = usable_bytes - footprint.components["context"] - over.free_bytes
    full = max(room, 0)
    seconds = _APPROACH_S / len(kept)
    strokes = [
        Stroke(
            stroke.name,
            begin_s + place * seconds,
            seconds,
            min(stroke.before_bytes, full),
            min(stroke.peak_bytes, full) if stroke is not kept[-1] else full,
            min(stroke.after_bytes, full) if stroke is not kept[-1] else full,
        )
        for place, stroke in enumerate(kept)
    ]
    return Beat(over.batch, footprint, begin_s, _APPROACH_S, tuple(strokes))


def _reserved(footprint: Footprint, past: Sequence[Stroke], now: Stroke, at_s: float) -> int:
    """What the cache holds: the most that was needed so far, in the peak's proportion."""
    most = max([stroke.peak_bytes for stroke in past], default=now.before_bytes)
    turn = now.begin_s + now.length_s * _FULLEST.get(now.name, 0.9)
    most = max(most, now.bytes_at(min(at_s, turn)))
    share = footprint.peak_reserved_bytes / max(footprint.peak_allocated_bytes, 1)
    return min(round(most * share), footprint.peak_reserved_bytes)
