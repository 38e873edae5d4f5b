"""The verdict: whether a footprint fits, how sure that is, and how far the batch can go."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

from ..errors import UsageError
from .advise import PredictorOf, advise, expandable
from .notes import notes
from .result import Advice, Estimate, Footprint, Method, Predictor, Uncertainty, Verdict
from .workload import AllocatorConfig, Device, Workload

UNCERTAINTY: Final[dict[Method, tuple[float, float]]] = {
    "trace": (-0.05, 0.05),
    "closed-form": (-0.15, 0.15),
    "seed": (-0.30, 2.00),
    "fitted": (-0.27, 0.70),
}
"""How far below and above the figure the truth may lie, as shares of the figure.

Of tests.bench.accuracy on 2026-11-21. trace: on one GPU predicted totals were -3.5 to +2.7 % from
the measured ones, rounded up to 5 %. closed-form: -14.7 % was the worst of Hugging Face's process
rows. seed: the texts give Llama-7B's activations at -65 % of what is counted (12·h·s·L·bytes·b
against eager attention), which is 2.9 times. fitted: lines through
seen peaks, at four times the largest batch seen (tests.bench.fitted_peaks).
"""
COMPOSED: Final[dict[Method, tuple[float, float]]] = {
    "trace": (-0.15, 0.15),
    "closed-form": (-0.20, 0.45),
    "seed": UNCERTAINTY["seed"],
    "fitted": UNCERTAINTY["fitted"],
}
"""The same for several GPUs: rows of FSDP, tensor and pipeline parallelism. trace: -11.9 to +14.5 %
(Megatron's, of modules that only stand in, +29 %). closed-form: -30 % of Hugging Face's reserved
to +21 % of torchtitan's."""
_MIB: Final = 1 << 20
_DRIVER_RESERVE_BYTES: Final = {
    "B200": 717 * _MIB,  # nvidia-smi 183359 MiB, CUDA 182642
    "A100-SXM4-80GB": 669 * _MIB,  # 81920, and 81251 by drivers that left the reserve out
    "A100-SXM4-40GB": 424 * _MIB,  # 40960 and 40536
    "A100-PCIE-40GB": 424 * _MIB,
    "T4": 251 * _MIB,  # 15360 and 15109
    "V100-SXM2-16GB": 224 * _MIB,  # 16384 and 16160
    "V100-PCIE-16GB": 224 * _MIB,
    "V100-SXM2-32GB": 258 * _MIB,  # 32768 and 32510
    "V100-PCIE-32GB": 258 * _MIB,
    "P100-PCIE-16GB": 104 * _MIB,  # 16384 and 16280
    "L4": 475 * _MIB,  # 23034, and 22.03 GiB in torch's out-of-memory messages
    "L40": 602 * _MIB,  # 46068 and 44.40 GiB
    "RTX 4090": 347 * _MIB,  # 24564 and 23.65 GiB
}
"""What NVML counts into the total and no process can have: published listings (catalogue), and
torch's out-of-memory messages ("has a total capacity of") in issues of public repositories."""
_DRIVER_RESERVE_SHARE: Final = 475 / 23034
"""Of cards that nobody has published both figures of: the largest share among those (L4)."""
HOST_RAM: Final = "host RAM"
"""The name of the device of a workload whose backend is the CPU: no driver keeps any of it."""
MOST_BATCH: Final = 1 << 16
"""Nothing is searched beyond it."""
_CURVE_POINTS: Final = 16
_GIVES_BACK: Final = (
    "with more memory more would be reserved: on this device the allocator has to give cached "
    "memory back, which takes time in every step"
)


@runtime_checkable
class Replaying(Protocol):
    """A predictor that replays the allocator, and can do so under other conditions."""

    def with_allocator(self, allocator: AllocatorConfig) -> Predictor:
        """The same with other settings of the allocator."""
        ...

    def within(self, batch: int, usable_bytes: int) -> Footprint | None:
        """Where a process may have so much, giving back what is cached; None where it dies."""
        ...


def judge(
    predictor: Predictor, workload: Workload, predictor_of: PredictorOf | None = None
) -> Estimate:
    """The estimate of a workload by a predictor that was made for it.

    ``predictor_of`` gives the figures that advice compares, fast: the closed form where None.
    """
    footprint = on_device(predictor, workload)
    footprint = dataclasses.replace(footprint, notes=(*footprint.notes, *notes(workload)))
    device = workload.device
    uncertainty = uncertainty_of(footprint.method, footprint.process_bytes, workload.parallel.gpus)
    largest = safe = verdict = None
    if device is not None:
        usable = usable_bytes(device)
        verdict = verdict_of(uncertainty, usable)
        if verdict == "fits" and _GIVES_BACK in footprint.notes:
            verdict = "tight"
        largest = _largest(predictor, usable, lambda batch: _runs(predictor, batch, usable))
        surely = fits_below_bytes(device, footprint.method, workload.parallel.gpus)
        safe = _largest(
            predictor, surely, lambda batch: predictor.at(batch).process_bytes <= surely, largest
        )
        # Fragmentation comes and goes with the batch: what is asked may fit where less does not.
        if footprint.process_bytes <= usable:
            largest = max(largest, workload.batch)
        if verdict == "fits":
            safe = max(safe, workload.batch)
    return Estimate(
        workload=workload,
        footprint=footprint,
        device=device,
        verdict=verdict,
        uncertainty=uncertainty,
        max_micro_batch=largest,
        safe_micro_batch=safe,
        curve=curve(predictor.process_bytes, workload.batch, largest),
        advice=_advice(predictor, workload, predictor_of, safe),
    )


def on_device(predictor: Predictor, workload: Workload) -> Footprint:
    """What is used where it runs: a device too small for all that would be cached gets some back.

    As if there were room where that is not enough.
    """
    footprint, device = predictor.at(workload.batch), workload.device
    if device is None or not isinstance(predictor, Replaying):
        return footprint
    usable = usable_bytes(device)
    if footprint.process_bytes <= usable:
        return footprint
    full = predictor.within(workload.batch, usable)
    if full is None:
        return footprint
    return dataclasses.replace(full, notes=(*full.notes, _GIVES_BACK))


def usable_bytes(device: Device) -> int:
    """What one process can have of a device with nothing else on it."""
    if device.name == HOST_RAM:
        return device.total_bytes
    for name, reserve in _DRIVER_RESERVE_BYTES.items():
        if device.name == name or device.name.endswith(" " + name):
            return device.total_bytes - reserve
    return int(device.total_bytes * (1 - _DRIVER_RESERVE_SHARE))


def uncertainty_of(method: Method, process_bytes: int, gpus: int = 1) -> Uncertainty:
    """Where the truth lies by the errors that were measured of a method."""
    below, above = _shares(method, gpus)
    return Uncertainty(int(process_bytes * (1 + below)), int(process_bytes * (1 + above)))


def verdict_of(uncertainty: Uncertainty, usable: int) -> Verdict:
    """``fits`` and ``oom`` only where the whole range does; else ``tight``."""
    if uncertainty.high_bytes <= usable:
        return "fits"
    return "oom" if uncertainty.low_bytes > usable else "tight"


def then_fits(advice: Advice, estimate: Estimate) -> bool:
    """Whether what does not surely fit does once a piece of advice is taken, and that alone."""
    if estimate.device is None or estimate.verdict == "fits":
        return False
    footprint = estimate.footprint
    left = max(footprint.process_bytes - advice.saves_bytes, 0)
    after = uncertainty_of(footprint.method, left, estimate.workload.parallel.gpus)
    return verdict_of(after, usable_bytes(estimate.device)) == "fits"


def _shares(method: Method, gpus: int) -> tuple[float, float]:
    return (UNCERTAINTY if gpus == 1 else COMPOSED)[method]


def fits_below_bytes(device: Device, method: Method, gpus: int = 1) -> int:
    """The most process bytes by a method whose verdict on the device is ``fits``."""
    usable = usable_bytes(device)
    most = int(usable / (1 + _shares(method, gpus)[1]))
    while uncertainty_of(method, most + 1, gpus).high_bytes <= usable:
        most += 1
    return most


def max_batch(process_bytes: Callable[[int], int], usable: int, most: int | None = None) -> int:
    """The largest batch whose bytes are at most ``usable``; 0 where none is.

    Bytes never fall as the batch grows, so the search doubles, then halves.
    """
    limit = MOST_BATCH if most is None else most
    if limit < 1 or process_bytes(1) > usable:
        return 0
    low = 1
    while low < limit and process_bytes(min(2 * low, limit)) <= usable:
        low = min(2 * low, limit)
    high = min(2 * low, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if process_bytes(middle) <= usable:
            low = middle
        else:
            high = middle
    return low


def _runs(predictor: Predictor, batch: int, usable: int) -> bool:
    if isinstance(predictor, Replaying):
        return predictor.within(batch, usable) is not None
    return predictor.at(batch).process_bytes <= usable


def _largest(
    predictor: Predictor, usable: int, fits: Callable[[int], bool], most: int = MOST_BATCH
) -> int:
    """The largest batch that fits, the next one does not; 0 where none. The curve leads near it."""
    if most < 1:
        return 0
    near = max(max_batch(predictor.process_bytes, usable, most), 1)
    reach, low, high = 1, 0, most + 1
    if fits(near):
        low = near
        while low < most and fits(min(low + reach, most)):
            low, reach = min(low + reach, most), 2 * reach
        high = min(low + reach, most + 1)
    else:
        high = near
        while high - reach > 0 and not fits(high - reach):
            high, reach = high - reach, 2 * reach
        low = max(high - reach, 0)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def curve(
    process_bytes: Callable[[int], int], batch: int, largest: int | None
) -> tuple[tuple[int, int], ...]:
    """(batch, process bytes) at some points, with the asked one, to beyond where memory ends."""
    last = max(2 * batch, 8) if largest is None else max(largest + 1, batch, 8)
    last = min(last + last // 4 + 1, max(MOST_BATCH, batch))
    batches = {1, batch, last}
    if largest:
        batches |= {largest, largest + 1}
    batches |= {1 + round(i * (last - 1) / (_CURVE_POINTS - 1)) for i in range(_CURVE_POINTS)}
    return tuple((one, process_bytes(one)) for one in sorted(batches))


def _advice(
    predictor: Predictor,
    workload: Workload,
    predictor_of: PredictorOf | None,
    safe_batch: int | None,
) -> tuple[Advice, ...]:
    replayed = None
    if isinstance(predictor, Replaying) and not workload.allocator.expandable_segments:
        config = dataclasses.replace(workload.allocator, expandable_segments=True)
        with_it = predictor.with_allocator(config).at(workload.batch)
        replayed = predictor.at(workload.batch).process_bytes - with_it.process_bytes
    if predictor_of is None:
        from .closed import predictor as closed_form

        predictor_of = closed_form
    try:
        return advise(
            workload,
            predictor_of,
            expandable_saves_bytes=replayed,
            most_batch=safe_batch if safe_batch and safe_batch < workload.batch else None,
        )
    except UsageError:
        # A model that is code, or of a kind without formulas.
        return expandable(replayed, predictor.at(workload.batch).process_bytes)
