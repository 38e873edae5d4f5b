"""The map of verdicts over micro-batch and sequence length."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ..errors import UsageError
from .calibrated import Calibration, calibrated
from .config_numbers import is_image_model, longest_sequence
from .judge import uncertainty_of, verdict_of
from .result import Method, Verdict
from .sweep import Sweep
from .workload import Workload

_SHORTEST: Final = 128
_TIMES_PRESENT: Final = 8
"""Sequences beyond so many times the present one are not shown where the model has no limit."""


@dataclass(frozen=True, slots=True)
class Square:
    """One batch size at one sequence length."""

    process_bytes: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Grid:
    """Verdicts by formula, but for the row of the present sequence, which its own curve says."""

    batches: tuple[int, ...]
    sequences: tuple[int, ...]
    rows: tuple[tuple[Square | None, ...], ...]
    """A row for each sequence; None where the workload is impossible."""


def grid(home: Sweep, by: Calibration, batches: Sequence[int], sequences: Sequence[int]) -> Grid:
    """The verdict on the workload's device at each batch and sequence.

    ``home`` is the curve of the present sequence; ``by`` draws the formulas for others to it.

    Raises:
        UsageError: there is no device to compare with.
    """
    workload, usable = home.workload, home.usable_bytes
    if usable is None:
        raise UsageError("a map of what fits needs a device: --gpu NAME or --vram SIZE")
    rows: list[tuple[Square | None, ...]] = []
    for sequence in sequences:
        process_bytes: Callable[[int], int] | None = None
        method: Method = "closed-form"
        if sequence == workload.sequence:
            process_bytes, method = home.process_bytes, home.at(1).method
        else:
            with contextlib.suppress(UsageError):
                there = dataclasses.replace(workload, sequence=sequence)
                process_bytes = calibrated(there, by).process_bytes
        if process_bytes is None:
            rows.append((None,) * len(batches))
            continue
        squares = []
        for batch in batches:
            size = process_bytes(batch)
            sure = uncertainty_of(method, size, workload.parallel.gpus)
            squares.append(Square(size, verdict_of(sure, usable)))
        rows.append(tuple(squares))
    return Grid(tuple(batches), tuple(sequences), tuple(rows))


def batch_axis(last: int, most: int, keep: Sequence[int]) -> tuple[int, ...]:
    """At most ``most`` batch sizes to ``last``, in steps that grow; those to keep are included."""
    return _axis(1, last, most, keep)


def sequence_axis(workload: Workload, most: int) -> tuple[int, ...]:
    """At most ``most`` sequence lengths around the present one that the model can do."""
    config = workload.model.config
    if config is None or is_image_model(config):
        return (workload.sequence,)
    longest = longest_sequence(config)
    if longest is not None and not workload.training:
        longest -= workload.new_tokens
    far = _TIMES_PRESENT * workload.sequence
    last = max(min(far if longest is None else longest, far), workload.sequence)
    first = min(_SHORTEST, workload.sequence, max(last // _TIMES_PRESENT, 1))
    return _axis(first, last, most, (workload.sequence,))


def _axis(first: int, last: int, most: int, keep: Sequence[int]) -> tuple[int, ...]:
    """Doubling from the first on, with a step half-way where there is room."""
    doubled = [first]
    while doubled[-1] * 2 <= last:
        doubled.append(doubled[-1] * 2)
    halves = [at * 3 // 2 for at in doubled if at > 1 and at % 2 == 0 and at * 3 // 2 <= last]
    kept = {value for value in (*keep, last) if first <= value <= last}
    for steps in ([*doubled, *halves], doubled, doubled[::2], doubled[::3], doubled[::4]):
        values = sorted({*steps, *kept})
        if len(values) <= most:
            return tuple(values)
    return tuple(sorted({first, *kept}))[-max(most, 1) :]
