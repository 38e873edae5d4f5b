"""What a process that was rebuilt as a workload should hold, by trace or by formula."""

from __future__ import annotations

from typing import Final

from ..closed import ClosedPredictor
from ..config_numbers import number
from ..expected import Expected, ExpectedPhase
from ..judge import COMPOSED, UNCERTAINTY
from ..notes import notes
from ..ranks import StepPredictor
from ..result import Method, PhaseUse, Predictor
from ..workload import Workload
from .job import Job
from .steps import live, steady_step

CPU_UNCERTAINTY: Final = 0.02
"""Of a trace on the CPU. ``python -m tests.bench predicted_vs_actual``: peaks of the demo, GPT-2,
LLaMA and LoRA were at most 0.01 % from the predicted ones; more is allowed for what those have not.
"""
_SAME_SHARE: Final = 0.02
"""On CUDA storages are rounded up to 512 bytes, which elements are not."""
_WIDTHS: Final = {"fp32": 4, "fp16": 2, "bf16": 2}


class TracedExpecting:
    """See ``expected.Expecting``."""

    def __init__(self, job: Job, predictor: StepPredictor, workload_notes: tuple[str, ...]) -> None:
        self.workload: Workload | None = job.workload
        self.predictor: Predictor = predictor
        self._traced = predictor
        self._job, self._notes = job, (*job.notes, *workload_notes)

    def at(self, batch: int) -> Expected:
        """Everything about one batch size."""
        workload = self._job.workload
        timeline = self._traced.timeline(batch)
        step = steady_step(timeline, batch, workload.backend)
        on_cpu = workload.backend == "cpu"
        reserved = None if on_cpu else self._traced.at(batch).peak_reserved_bytes
        return Expected(
            source="trace",
            told=f"{self._job.class_name} rebuilt from its configuration, traced",
            batch=batch,
            sequence=workload.sequence,
            phases=step.phases,
            peak=step.peak,
            peak_bytes=step.peak_bytes,
            peak_phase=step.peak_phase,
            peak_module=step.peak_module,
            reserved_bytes=reserved,
            uncertainty=CPU_UNCERTAINTY if on_cpu else _uncertainty("trace", workload),
            logits_bytes=logits_bytes(workload, batch),
            notes=(*self._notes, *timeline.notes),
        )


class ClosedExpecting:
    """See ``expected.Expecting``."""

    def __init__(self, job: Job, predictor: ClosedPredictor, why: str) -> None:
        self.workload: Workload | None = job.workload
        self.predictor: Predictor = predictor
        self._closed = predictor
        self._job, self._why = job, why

    def at(self, batch: int) -> Expected:
        """Everything about one batch size."""
        workload = self._job.workload
        made = self._closed.at(batch)
        uses = {use.name: use for use in made.phases}
        peak = live(made.components)
        return Expected(
            source="closed-form",
            told=f"{self._job.class_name} by formula: {self._why}",
            batch=batch,
            sequence=workload.sequence,
            phases=tuple(
                _phase(name, after, uses[name]) for name, after in self._closed.ends(batch)
            ),
            peak=peak,
            peak_bytes=sum(peak.values()),
            peak_phase=made.peak_phase,
            peak_module=None,
            reserved_bytes=made.peak_reserved_bytes,
            uncertainty=_uncertainty("closed-form", workload),
            logits_bytes=logits_bytes(workload, batch),
            notes=(
                *self._job.notes,
                "by formula the loop is the tutorials': `outputs` live until the next forward",
                *made.notes,
            ),
        )


def logits_bytes(workload: Workload, batch: int) -> int | None:
    """Of a causal or masked language model's head; None of any other model."""
    words = number(workload.model.config or {}, "vocabulary")
    kind = workload.model.auto_class
    if words is None or workload.chunked_loss or not kind.endswith(("CausalLM", "MaskedLM")):
        return None
    return batch * workload.sequence * words * _WIDTHS[workload.activation_dtype]


def workload_notes(workload: Workload) -> tuple[str, ...]:
    """What deserves a word of a workload on CUDA; its sentences are of GPUs."""
    return notes(workload) if workload.backend == "cuda" else ()


def _phase(name: str, after: dict[str, int], use: PhaseUse) -> ExpectedPhase:
    workspace = after.get("workspace", 0)  # no storage, so in no sampled step
    return ExpectedPhase(name, live(after), max(use.peak_bytes - workspace, 0))


def _uncertainty(method: Method, workload: Workload) -> float:
    low, high = (UNCERTAINTY if workload.parallel.gpus == 1 else COMPOSED)[method]
    return max(-low, high)


def is_same(expected: Expected, parameter_bytes: int | None, gradient_bytes: int | None) -> bool:
    """Whether what was rebuilt has the parameters of the process, and trains the same of them.

    What is None is not compared.
    """
    after = {phase.name: phase.after for phase in expected.phases}
    trained = after.get("backward", expected.peak)["gradient"]
    return _is_near(expected.peak["parameter"], parameter_bytes) and _is_near(
        trained, gradient_bytes
    )


def _is_near(ours: int, theirs: int | None) -> bool:
    return theirs is None or abs(ours - theirs) <= _SAME_SHARE * theirs
