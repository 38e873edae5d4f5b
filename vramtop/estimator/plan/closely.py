"""The few configurations of a plan looked at again by a slower and surer predictor."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ...errors import VramtopError
from ..result import Progress
from .layouts import micro_batches
from .model import Numbers
from .pareto import front
from .search import as_asked, costs, price, workload_of
from .selection import few
from .values import Configuration, Plan, PredictorOf

_ROUNDS: Final = 4
"""Where what was chosen turns out not to fit, others are chosen and looked at, so many times."""


def recheck(
    plan: Plan, predictor_of: PredictorOf, numbers: Numbers, progress: Progress | None = None
) -> Plan:
    """The plan with the memory of what it shows by another predictor.

    What that says does not fit takes the next smaller micro-batch that does, or makes room for
    others. Configurations that it cannot predict stay as they are; a note says so and why.
    """
    pool = {id(one): one for one in plan.found}
    looked_at: set[int] = set()
    left, begun, refused = 0, 0, []
    for _ in range(_ROUNDS):
        chosen = [one for one in few(front(pool.values(), costs)) if id(one) not in looked_at]
        if not chosen:
            break
        known = begun + len(chosen)
        for one in chosen:
            if progress is not None:
                progress(f"looking closely, {begun + 1} of {known}", begun / known)
            begun += 1
            found: Configuration | None = one
            try:
                found = _smaller(one, plan, predictor_of, numbers)
            except VramtopError as error:
                refused.append(str(error))
            del pool[id(one)]
            if found is None:
                left += 1
            else:
                pool[id(found)] = found
                looked_at.add(id(found))
    certain = [one for key, one in pool.items() if key in looked_at]
    notes = [*plan.notes]
    if left:
        notes.append(f"{left} configurations left out: they do not fit when looked at closely")
    if refused:
        notes.append(f"{len(refused)} configurations could not be looked at closely: {refused[0]}")
    return replace(
        plan, configurations=tuple(few(front(certain, costs))), found=(), notes=tuple(notes)
    )


def _smaller(
    one: Configuration, plan: Plan, predictor_of: PredictorOf, numbers: Numbers
) -> Configuration | None:
    samples = one.workload.batch * one.passes
    asked, predictor = None, None
    for batch in micro_batches(samples):
        if batch > one.workload.batch:
            continue
        passes = samples // batch
        workload = workload_of(
            plan.wish,
            one.arithmetic,
            one.workload.checkpointing,
            one.workload.parallel,
            batch,
            passes,
        )
        if predictor is None or as_asked(workload.with_batch(1)) != asked:
            asked = as_asked(workload.with_batch(1))
            predictor = predictor_of(as_asked(workload))
        if predictor.process_bytes(batch) <= plan.limit_bytes:  # fast, and near
            footprint = predictor.at(batch)
            if footprint.process_bytes <= plan.limit_bytes:
                return price(workload, one.arithmetic, passes, footprint, numbers)
        if "batch" in plan.wish.held:
            return None
    return None
