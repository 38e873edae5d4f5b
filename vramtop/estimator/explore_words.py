"""Sentences of the batch-size explorer, for the screen and for text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..core.units import format_bytes
from .accumulation import Accumulation
from .config_numbers import is_image_model
from .controls import short_device
from .fall import Fall
from .judge import COMPOSED, MOST_BATCH, UNCERTAINTY
from .labels import PHASE_WORDS
from .result import Footprint
from .sweep import Sweep
from .workload import Workload

VERDICT_WORDS: Final = {"fits": "FITS", "tight": "TIGHT", "oom": "OUT OF MEMORY"}
VERDICT_TONES: Final = {"fits": "good", "tight": "warn", "oom": "error"}


def each_words(workload: Workload, sequence: int | None = None) -> str:
    """What a sample is: "2,048 tokens", "1 image"."""
    if is_image_model(workload.model.config or {}):
        return "1 image"
    if workload.model.config is None and workload.model.entry is None:
        # A model that is known by its name alone: what its inputs are is not.
        return "1 sample" if workload.sequence == 1 else f"samples of {workload.sequence:,}"
    return f"{workload.sequence if sequence is None else sequence:,} tokens"


def maximum_digits(sweep: Sweep) -> str:
    """The largest micro-batch for big digits: "23", "65536+" where none was found to fail."""
    if sweep.largest is None:
        return "–"
    return f"{MOST_BATCH}+" if sweep.largest >= MOST_BATCH else str(sweep.largest)


def maximum_words(sweep: Sweep) -> str:
    """What the big digits are."""
    workload = sweep.workload
    if workload.device is None:
        return "no device to compare with: choose a GPU"
    return f"max micro-batch at {each_words(workload)} on {short_device(workload.device.name)}"


def sure_words(sweep: Sweep) -> str:
    """How sure the maximum is."""
    if sweep.largest is None:
        return ""
    if not sweep.largest:
        return "no batch fits, not even 1"
    if sweep.largest >= MOST_BATCH:
        return "at least: no larger one was tried"
    if sweep.predictor.at(1).method == "fitted":
        return f"likely {sweep.safe}" if sweep.safe else ""
    if sweep.safe == sweep.largest:
        return "surely"
    return f"surely {sweep.safe}" if sweep.safe else "none for sure"


def method_words(footprint: Footprint, gpus: int) -> str:
    """By which method, and how far it may be off."""
    method = footprint.method
    shares = (UNCERTAINTY if gpus == 1 else COMPOSED).get(method)
    name = {"trace": "exact: traced", "closed-form": "formula"}.get(method, method)
    if shares is None:
        return name
    low, high = (round(100 * share) for share in shares)
    return f"{name} ±{high} %" if -low == high else f"{name} {low} to +{high} %"


def room_words(sweep: Sweep, batch: int, footprint: Footprint) -> str:
    """How far below or above the ceiling a batch is."""
    if sweep.usable_bytes is None:
        return ""
    left = sweep.usable_bytes - footprint.process_bytes
    usable = format_bytes(sweep.usable_bytes)
    if left < 0:
        return f"{format_bytes(-left)} more than the {usable} there are"
    if left == 0 and not sweep.is_beyond(batch):
        return f"runs in {usable} by giving cached memory back"
    if sweep.is_beyond(batch):
        return f"{format_bytes(left)} of {usable} left, but in pieces that are too small"
    return f"{format_bytes(left)} of {usable} left"


def effective_words(ways: Sequence[Accumulation], width: int) -> str:
    """The effective batches that are offered, as many as ``width`` characters have room for."""
    text = ""
    for way in ways:
        longer = f"{text} · {way.factors}" if text else str(way)
        if len(longer) > width:
            break
        text = longer
    return text


def oom_words(fall: Fall) -> str:
    """What such a death is called."""
    return "CUDA out of memory" if fall.on_cuda else "out of memory"


def fall_words(fall: Fall) -> str:
    """How the batch behind the cliff dies, in torch's words, with the figures."""
    where = PHASE_WORDS.get(fall.phase, fall.phase)  # "" of a line through peaks
    if fall.module:
        where += f" at {fall.module}"
    what = oom_words(fall)
    if fall.is_replayed:
        return (
            f"{what}: batch {fall.batch} asks for {format_bytes(fall.requested_bytes)} "
            f"{where}, {format_bytes(fall.free_bytes)} is free"
        )
    return (
        f"{what}: batch {fall.batch} needs {format_bytes(fall.process_bytes)}, "
        f"{format_bytes(fall.requested_bytes)} more than there is"
    ) + (where and f", {where}")
