"""What other ways to see a training's memory cost each step, on the same models.

``python -m tests.bench.rivals MODEL BLOCKS DEVICE`` measures one model and prints JSON: blocks of
steps with a tool and without are neighbours in an order by chance. Each tool is used as its own
documentation does; what it does at its end (an analysis, an export) is not counted.
pytorch_memlab lives in ``.venv-bench``, made on first use.
"""

import contextlib
import gc
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.machine import ROOT, measured

VENV = ROOT / ".venv-bench"
NEEDS = ("calmsize==0.1.3", "pandas>=2,<3")
MEMLAB = "pytorch_memlab==0.3.2"
STEPS = 4
"""In a block."""


def packages():
    """Where pytorch_memlab can be imported from; without a torch of its own."""
    pip = VENV / "bin" / "pip"
    (folder,) = VENV.glob("lib/python*/site-packages")
    if not (folder / "pytorch_memlab").exists():
        subprocess.run([pip, "install", "-q", *NEEDS], check=True)
        subprocess.run([pip, "install", "-q", "--no-deps", MEMLAB], check=True)
    return folder


def measure(model, blocks, device):
    """For each tool, pairs of [seconds, CPU seconds] of blocks with it and without."""
    if not VENV.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    return measured("tests.bench.rivals", model, blocks, device, MEMLAB_PACKAGES=str(packages()))


def compare(step, with_it, blocks):
    """Pairs of blocks with a tool and without."""
    dice = random.Random(1)
    pairs = []
    for _ in range(blocks):
        got = {}
        for on in dice.sample((True, False), 2):
            got[on] = with_it() if on else timed(step)
            gc.collect()  # what a tool leaves behind must not fall into the other's block
        pairs.append((got[True], got[False]))
    return pairs


def timed(step):
    """Seconds and CPU seconds of one block."""
    began, cpu = time.perf_counter(), time.thread_time()
    for _ in range(STEPS):
        step()
    return time.perf_counter() - began, time.thread_time() - cpu


def profiled(step, **what):
    """Steps inside the profiler; its start and its end are not counted."""
    from torch.profiler import profile

    with profile(profile_memory=True, **what):
        return timed(step)


def reported(step, reporter):
    """Steps that end with a report, which goes nowhere."""

    def step_and_report():
        step()
        reporter.report()

    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        return timed(step_and_report)


def packed(step):
    """Steps whose saved tensors are noted, each storage once."""
    import torch

    seen = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    def hooked_step():
        seen.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            step()

    return timed(hooked_step)


def main(model_name, blocks, device):
    """Measure and print."""
    from tests.bench.models import training

    model, step = training(model_name, device)
    sys.path.append(os.environ["MEMLAB_PACKAGES"])
    from pytorch_memlab import MemReporter

    reporter = MemReporter(model)
    tools = {
        "saved_tensors_hooks": lambda: packed(step),
        "pytorch_memlab MemReporter": lambda: reported(step, reporter),
        "torch.profiler, memory": lambda: profiled(step),
        "torch.profiler, memory timeline": lambda: profiled(
            step, record_shapes=True, with_stack=True
        ),
    }
    print(json.dumps({name: compare(step, with_it, blocks) for name, with_it in tools.items()}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
