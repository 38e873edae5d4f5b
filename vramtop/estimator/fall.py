"""Over the cliff: how the first batch that does not run dies."""

from __future__ import annotations

from dataclasses import dataclass

from .sweep import Sweep
from .traced import TracedPredictor


@dataclass(frozen=True, slots=True)
class Fall:
    """The out-of-memory death of the batch behind the cliff."""

    batch: int
    phase: str
    module: str | None
    requested_bytes: int
    """The request that finds no memory; where no allocator was replayed, what is missing in all."""
    free_bytes: int
    """What is left for it, cached memory given back; 0 where no allocator was replayed."""
    process_bytes: int
    """What the whole batch would take."""
    is_replayed: bool
    on_cuda: bool


def fall(sweep: Sweep) -> Fall | None:
    """The death of the first batch that does not run; None where all that are shown do."""
    if not sweep.has_cliff or sweep.largest is None or sweep.usable_bytes is None:
        return None
    batch = sweep.largest + 1
    on_cuda = sweep.workload.backend == "cuda"
    footprint = sweep.exactly(batch)
    predictor = sweep.predictor
    if isinstance(predictor, TracedPredictor):
        capacity = sweep.usable_bytes - footprint.components["context"]
        death = predictor.replay(batch, capacity).death
        if death is not None:
            return Fall(
                batch,
                death.phase,
                death.module or None,
                death.requested_bytes,
                death.free_bytes,
                footprint.process_bytes,
                is_replayed=True,
                on_cuda=on_cuda,
            )
    return Fall(
        batch,
        footprint.peak_phase,
        footprint.peak_module,
        max(footprint.process_bytes - sweep.usable_bytes, 0),
        0,
        footprint.process_bytes,
        is_replayed=False,
        on_cuda=on_cuda,
    )
