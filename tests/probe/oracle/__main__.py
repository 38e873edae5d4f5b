"""What torch.profiler says: ``python -m tests.probe.oracle [case,...] [mode,...]``, in MiB."""

from __future__ import annotations

import gc
import sys

import torch

from .models import CASES, MODES, Training
from .timeline import NAMES, profiled

torch.set_num_threads(1)
cases = sys.argv[1].split(",") if len(sys.argv) > 1 else CASES
modes = sys.argv[2].split(",") if len(sys.argv) > 2 else MODES
for case in cases:
    for mode in modes:
        training = Training(case, mode)
        training.train(2)
        step = profiled(training)
        print(f"{case} {mode}")
        print(" " * 10, *(f"{name[:10]:>10s}" for name in [*NAMES.values(), "sum"]))
        moments = {phase: step.end_of(phase) for phase in step.marks} | {"peak": step.peak()}
        for name, moment in moments.items():
            sizes = [*(moment.sizes.get(c, 0) for c in NAMES.values()), moment.total_bytes]
            moved = {rule: f"{size / 2**20:.2f}" for rule, size in moment.moved.items()}
            phase = f" in {moment.phase}" if name == "peak" else ""
            print(f"{name:10s}", *(f"{s / 2**20:10.2f}" for s in sizes), phase, moved or "")
        del training, step
        gc.collect()
