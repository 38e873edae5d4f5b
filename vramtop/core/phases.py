"""The phases of the last step sampled in detail, and the user's stages, as rows to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .memory import Detail, Peak, Phase, Stage
from .units import NONE_SHOWN, format_bytes, format_delta

PHASE_LABELS: Final = {"step": "optimizer step", "other": "between phases"}
"""Phases that are called something else on the screen than in a message."""
STAGE_SEPARATOR: Final = " / "
_TRAINING: Final = frozenset({"forward", "backward", "step"})


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """One phase of the waterfall; the first row is the step's beginning and no phase."""

    label: str
    """The phase's name, "forward ×4" where it ran four times."""
    phase: Phase | None
    before_bytes: int | None
    change_bytes: int | None
    after_bytes: int
    peak_bytes: int | None
    is_largest: bool = False
    """The phase in which the step's memory was most."""

    @property
    def texts(self) -> tuple[str, str, str, str, str]:
        """Label, before, change, after and peak as shown."""
        return (
            self.label,
            _text(self.before_bytes),
            NONE_SHOWN if self.change_bytes is None else format_delta(self.change_bytes),
            _text(self.after_bytes),
            _text(self.peak_bytes),
        )


def phase_label(name: str, count: int = 1) -> str:
    """What a phase is called on the screen."""
    label = PHASE_LABELS.get(name, name)
    return f"{label} ×{count}" if count > 1 else label


def inference_of(detail: Detail) -> str | None:
    """What a step was in which nothing was trained: evaluation or generation; else None."""
    names = {phase.name for phase in detail.phases}
    if names & _TRAINING:
        return None
    return next((name for name in ("evaluation", "generation") if name in names), None)


def phase_rows(detail: Detail) -> list[PhaseRow]:
    """The waterfall: where the step began, then its phases in the order in which they ran."""
    if not detail.phases:
        return []
    largest = max(detail.phases, key=_height)
    rows = [PhaseRow("before the step", None, None, None, detail.phases[0].before_bytes, None)]
    rows += [
        PhaseRow(
            label=phase_label(phase.name, phase.count),
            phase=phase,
            before_bytes=phase.before_bytes,
            change_bytes=phase.change_bytes,
            after_bytes=phase.after_bytes,
            peak_bytes=phase.peak_bytes,
            is_largest=phase is largest,
        )
        for phase in detail.phases
    ]
    return rows


def ceiling_bytes(detail: Detail) -> int:
    """The most that the step held at any moment that is known, 0 where none is."""
    heights = [_height(phase) for phase in detail.phases]
    return max([*heights, detail.peak.total_bytes if detail.peak else 0])


def peak_sentence(peak: Peak) -> str:
    """How much, and where in the step: "peak 99.0 MiB in backward of h.3.mlp"."""
    module = "" if peak.module is None else f" of {peak.module or 'the model itself'}"
    return f"peak {format_bytes(peak.total_bytes)} in {phase_label(peak.phase)}{module}"


@dataclass(frozen=True, slots=True)
class StageRow:
    """One of the user's stages; those within it follow it, one deeper."""

    label: str
    depth: int
    stage: Stage

    @property
    def texts(self) -> tuple[str, str, str, str, str]:
        """Label, before, change, after and peak as shown."""
        stage = self.stage
        return (
            self.label,
            _text(stage.before_bytes),
            format_delta(stage.after_bytes - stage.before_bytes),
            _text(stage.after_bytes),
            _text(stage.peak_bytes),
        )


def stage_rows(stages: Sequence[Stage]) -> list[StageRow]:
    """Every stage after the one that it ran in, otherwise in the order given."""
    places = {stage.path: place for place, stage in enumerate(stages)}

    def place_of(path: str) -> int:
        # An outer stage ends, and so is reported, after the inner ones; while it has not ended
        # yet, they stand where it will.
        if path in places:
            return places[path]
        inner = path + STAGE_SEPARATOR
        return min(place for other, place in places.items() if other.startswith(inner))

    def position(stage: Stage) -> list[int]:
        names = stage.path.split(STAGE_SEPARATOR)
        return [place_of(STAGE_SEPARATOR.join(names[: i + 1])) for i in range(len(names))]

    return [
        StageRow(
            label=stage.path.rpartition(STAGE_SEPARATOR)[2]
            + (f" ×{stage.calls}" if stage.calls > 1 else ""),
            depth=stage.path.count(STAGE_SEPARATOR),
            stage=stage,
        )
        for stage in sorted(stages, key=position)
    ]


def _height(phase: Phase) -> int:
    return max(phase.before_bytes, phase.after_bytes, phase.peak_bytes or 0)


def _text(size_bytes: int | None) -> str:
    return NONE_SHOWN if size_bytes is None else format_bytes(size_bytes)
