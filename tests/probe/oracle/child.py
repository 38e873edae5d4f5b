"""The two processes that train the same cells: one under the profiler, one under the probe.

Both read "case mode" lines and answer with one line each.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

from .models import Training
from .timeline import profiled

_WARM_UP_STEPS = 2
_STEPS = 4
"""A recording begins up to a round before the round that it tells of."""


def profile() -> None:
    """Answer with what torch.profiler says of one step, by moment."""
    for case, mode in _requests():
        training = Training(case, mode)
        training.train(_WARM_UP_STEPS)
        step = profiled(training)
        moments = {phase: step.end_of(phase) for phase in step.marks}
        moments["peak"] = step.peak()
        print(json.dumps({name: asdict(moment) for name, moment in moments.items()}), flush=True)
        del training, step
        gc.collect()


def train() -> None:
    """Train, and have the injected probe record one step of each cell in detail."""
    from _vramtop_injected.probe import discovery
    from _vramtop_injected.probe.session import session

    discovery._SEARCH_SPACING_S = 0.0  # a process that trains so many models is no training
    wanted: list[bool] = []
    pace = session().observer.detail_pace
    pace.due = lambda: bool(wanted) and wanted.pop()
    pace.due_at = lambda: 0.0  # every boundary is heard
    for case, mode in _requests():
        training = Training(case, mode)
        training.train(_WARM_UP_STEPS)
        wanted.append(True)
        training.train(_STEPS)
        print("trained", flush=True)
        del training
        gc.collect()


def _requests() -> Iterator[list[str]]:
    import torch

    torch.set_num_threads(1)
    return (line.split() for line in iter(sys.stdin.readline, ""))
