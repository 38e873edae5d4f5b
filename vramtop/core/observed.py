"""Which batch sizes a process was seen to train with, and the largest peak of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .memory import Detail
from .model import ModelInfo, Process
from .phases import inference_of

MAX_OBSERVED: Final = 64
_TOKENS: Final = ("input_ids", "inputs_embeds", "decoder_input_ids")


@dataclass(frozen=True, slots=True)
class ObservedPeak:
    """The fullest sampled step of one batch size."""

    batch: int
    sequence: int | None
    peak_bytes: int
    """Of tensors, as ``memory.Peak.total_bytes``."""
    step: int | None


def batch_and_sequence(model: ModelInfo, detail: Detail | None) -> tuple[int | None, int | None]:
    """Of the sampled step where there is one, else of the last forward; None where not known.

    The tokens tell where a tensor is called by one of their names, else the first tensor. Of two
    dimensions the second is taken to be the sequence.
    """
    shape, has_tokens = _shape(model, (detail.batch_shapes if detail else ()) or model.batch_shapes)
    if not shape:
        return None, None
    return shape[0], shape[1] if has_tokens and len(shape) > 1 else None


def _shape(model: ModelInfo, shapes: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], bool]:
    """That of the batch, and whether its second dimension is the sequence; () if there is none."""
    if not shapes:
        return (), False
    names = [name.rpartition(".")[2] for name in model.arguments]
    place = next((i for i, n in enumerate(names) if n in _TOKENS and i < len(shapes)), 0)
    shape = shapes[place]
    return shape, len(shape) == 2 or (place < len(names) and names[place] in _TOKENS)


def failed_shape(process: Process) -> tuple[int, ...]:
    """Of the batch whose forward has failed; () where it failed after, or nothing is known."""
    failure, models = process.probe.failure, process.probe.models
    if failure is None or failure.phase != "forward" or failure.module_source != "exact":
        return ()
    # Of several it is not said which one has failed.
    return _shape(models[0], models[0].batch_shapes)[0] if len(models) == 1 else ()


def observe(
    known: tuple[ObservedPeak, ...], process: Process, detail: Detail | None
) -> tuple[ObservedPeak, ...]:
    """With the peak of one more step sampled in detail, smallest batch first.

    Of more than ``MAX_OBSERVED`` the one of the earliest step is dropped, yet never the smallest
    nor the largest, between which the others lie. What a training needs its evaluations do not say.
    """
    if detail is None or detail.peak is None or not process.probe.models:
        return known
    if process.probe.optimizers and inference_of(detail):
        return known
    if not detail.batch_shapes and any(peak.step == detail.step for peak in known):
        return known  # the last forward's shapes may be of a later step than this one
    model = max(process.probe.models, key=lambda info: info.parameters)
    batch, sequence = batch_and_sequence(model, detail)
    if batch is None:
        return known
    seen = ObservedPeak(batch, sequence, detail.peak.total_bytes, detail.step)
    by_size = {(peak.batch, peak.sequence): peak for peak in known}
    before = by_size.get((batch, sequence))
    if before is not None and before.peak_bytes >= seen.peak_bytes:
        return known
    by_size[batch, sequence] = seen
    peaks = sorted(by_size.values(), key=lambda peak: (peak.batch, peak.sequence or 0))
    if len(peaks) > MAX_OBSERVED:
        peaks.remove(min(peaks[1:-1], key=lambda peak: peak.step or 0))
    return tuple(peaks)
