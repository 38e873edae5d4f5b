"""True figures for the tables: workloads that the texts mean, and what is read off footprints."""

from __future__ import annotations

from dataclasses import replace

from ..result import Footprint
from ..workload import Device, Workload
from .values import Truth, seven_b

_LARGEST = 4096
"""Where the search for the largest batch ends."""


def training(batch: int = 4, sequence: int = 512, precision: str = "fp16") -> Workload:
    """Text 1's training: the 7B model, Adam; batch 4 and sequence 512 are its waterfall's."""
    return Workload(seven_b(), batch=batch, sequence=sequence, precision=precision)


def inference(precision: str, batch: int, sequence: int) -> Workload:
    """Text 1's inference: a prompt, then one token, as its benchmark runs it."""
    return Workload(
        seven_b(),
        mode="inference",
        batch=batch,
        sequence=sequence,
        precision=precision,
        new_tokens=1,
    )


def after(footprint: Footprint | None, phase: str) -> int | None:
    """Allocated bytes at the end of a phase."""
    return _phase(footprint, phase, "after_bytes")


def peak(footprint: Footprint | None, phase: str) -> int | None:
    """Allocated bytes at a phase's fullest moment."""
    return _phase(footprint, phase, "peak_bytes")


def _phase(footprint: Footprint | None, name: str, field: str) -> int | None:
    for phase in footprint.phases if footprint else ():
        if phase.name == name:
            return int(getattr(phase, field))
    return None


def without_states(footprint: Footprint | None, phase: str) -> int | None:
    """Allocated bytes at the end of a phase of the *first* step.

    It has no states before its optimizer step. The texts' waterfall is of that step, footprints
    are of a later one.
    """
    value = after(footprint, phase)
    if footprint is None or value is None:
        return None
    return value - footprint.components["optimizer_state"]


def added(footprint: Footprint | None, phase: str) -> int | None:
    """What is there at the end of a phase beyond weights and states.

    After forward activations with the logits, after backward gradients.
    """
    end, kept = after(footprint, phase), after(footprint, "zero_grad")
    return None if end is None or kept is None else end - kept


def largest_batch(truth: Truth, workload: Workload, device: Device) -> int | None:
    """Largest batch whose process is within the card, 0 where none is; None where unknown."""
    workload = replace(workload, device=device)

    def total(batch: int) -> int | None:
        footprint = truth(workload.with_batch(batch))
        return None if footprint is None else footprint.process_bytes

    if (least := total(1)) is None:
        return None
    if least > device.total_bytes:
        return 0
    low, high = 1, _LARGEST
    while low < high:
        middle = (low + high + 1) // 2
        used = total(middle)
        if used is not None and used <= device.total_bytes:
            low = middle
        else:
            high = middle - 1
    return low


def quotient(part: int | None, whole: int | None) -> float | None:
    """``part / whole``, None where either is unknown."""
    return None if part is None or not whole else part / whole
