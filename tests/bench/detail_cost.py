"""What one step costs that is looked at in detail, by mechanism: the choice behind the recorder.

``python -m tests.bench detail_cost [--blocks 25]``. The rows of vramtop are whole recordings of
the probe's: two steps under the recorder, the walks at either end and the analysis. Its own
estimate of that cost decides how rarely it records; the last column tells how true it is.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys

from tests.bench.machine import measured, print_table
from tests.bench.paired import ratio
from tests.bench.rivals import STEPS, compare, packed, profiled, timed

MODELS = ("small-ops", "deep", "wide", "gpt")
BLOCKS = 25
RECORDED_STEPS = 2
WATCHED_S = 1.0
VRAMTOP = "vramtop, whole recording"


def operations(step):
    """How many operations a step is, as a dispatch mode sees them."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = 0

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal seen
            seen += 1
            return func(*args, **(kwargs or {}))

    with Counting():
        step()
    return seen


def dispatched(step):
    """Steps under a dispatch mode that does nothing: the least that seeing operations costs."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Nothing(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    with Nothing():
        return timed(step)


def hooked(step, backward):
    """Steps with hooks on all modules that do nothing."""
    from torch.nn.modules import module

    def hear(*_):
        return None

    registers = [module.register_module_forward_pre_hook, module.register_module_forward_hook]
    if backward:
        registers.append(module.register_module_full_backward_hook)
    with contextlib.ExitStack() as stack:
        for register in registers:
            stack.callback(register(hear).remove)
        return timed(step)


class Recordings:
    """Makes the probe record when asked, and keeps what it says that it cost."""

    def __init__(self, session):
        self.estimates_s = []
        self._session = session
        self._due = False
        pace = session.observer.detail_pace
        pace.due = lambda: self._due
        pace.end = self.estimates_s.append

    def recorded(self, step):
        """Steps of which the first begins a recording that the third ends as it begins."""
        known = len(self.estimates_s)
        self._due = True
        self._session.watched(WATCHED_S)

        def one():
            step()
            self._due = False

        taken = timed(one)
        self._session.watched(None)
        assert len(self.estimates_s) == known + 1
        return taken


def child(model_name, blocks, device):
    """Measure one model and print JSON."""
    from tests.bench.cost_training import PROBE, load_probe

    load_probe()
    from tests.bench.models import training

    _, step = training(model_name, device)
    session = sys.modules[f"{PROBE}.session"].session()
    recordings = Recordings(session)
    mechanisms = {
        VRAMTOP: lambda: recordings.recorded(step),
        "no-op dispatch mode": lambda: dispatched(step),
        "saved_tensors_hooks": lambda: packed(step),
        "module hooks, forward": lambda: hooked(step, backward=False),
        "module hooks, forward and backward": lambda: hooked(step, backward=True),
        "torch.profiler, memory": lambda: profiled(step),
    }
    pairs = {name: compare(step, with_it, blocks) for name, with_it in mechanisms.items()}
    assert not session.faults.messages, session.faults.messages
    result = {
        "operations": operations(step),
        "pairs": pairs,
        "estimates_s": recordings.estimates_s,
    }
    print(json.dumps(result))


def rows(model, blocks, device):
    """One line a mechanism."""
    result = measured("tests.bench.detail_cost", "--child", model, blocks, device)
    for name, blocks_s in result["pairs"].items():
        ours = name == VRAMTOP
        steps = RECORDED_STEPS if ours else STEPS
        # The other steps of a block are as they are without.
        rest = 1 - steps / STEPS
        wall, cpu = (
            [(on[which] - rest * off[which], off[which] * (1 - rest)) for on, off in blocks_s]
            for which in (0, 1)
        )
        plain_s = statistics.median(off for _, off in cpu) / steps
        added_s = (ratio(cpu).value - 1) * plain_s  # wall time says the same, less surely
        estimated_s = statistics.mean(result["estimates_s"]) / steps
        yield (
            f"{model}, {result['operations']} ops, {1000 * plain_s:.1f} ms",
            name,
            f"{ratio(wall):.2f}",
            f"{ratio(cpu):.2f}",
            f"{1e6 * added_s / result['operations']:.1f}",
            f"{estimated_s / added_s:.2f}" if ours else "",
        )


def main(arguments=()):
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=BLOCKS, help="pairs of blocks a row")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args(arguments)
    load = os.getloadavg()[0]
    lines = [row for model in MODELS for row in rows(model, options.blocks, options.device)]
    print_table(
        f"one step looked at / one not, ±95 %, {options.blocks} pairs of blocks, "
        f"{options.device}, load before it {load:.1f}",
        ("model", "mechanism", "wall", "CPU", "CPU µs an op more", "own estimate / true"),
        lines,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        main(sys.argv[1:])
