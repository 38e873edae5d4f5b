"""What the probe costs a training: step time and CPU with and without its hooks, watched or not.

Run: ``python -m tests.bench.probe_cost [--pairs 120]``. Short blocks with the hooks and without
alternate within one process, because on a shared machine two processes, and two seconds of one,
differ by far more than the probe costs. Counting goes by the clock and falls wholly into the
blocks with hooks, half of the time: the ratio is on the safe side. The viewer asks once
a second; its serving thread stays in both blocks.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.machine import describe

PACKAGE = Path(__file__).parents[2] / "vramtop"
BLOCK_S = 0.25
KINDS = ("A/A", "unwatched", "watched")
"""A/A has the hooks in neither block: what it shows beside 1 is the machine's own noise."""

TRAINING = """
import json, os, random, sys, time, types
dice = random.Random(1)
model_name, count, hooked = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "hooked"
root = types.ModuleType("_vramtop_injected"); root.__path__ = [PACKAGE]
sys.modules["_vramtop_injected"] = root
from _vramtop_injected.probe import boot
boot.install()
import torch
from torch import nn
torch.manual_seed(0); torch.set_num_threads(1)

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
    def forward(self, x):
        q, k, v = self.mix(self.norm(x)).chunk(3, -1)
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))

MAKE = {
    "gpt": lambda: (nn.Sequential(*[Block(128) for _ in range(4)]), (4, 64, 128)),
    "small-ops": lambda: (nn.Sequential(*[Block(8) for _ in range(48)]), (1, 4, 8)),
    "wide": lambda: (nn.Sequential(nn.Linear(1024, 2048), nn.GELU(), nn.Linear(2048, 1024)),
                     (16, 1024)),
}
model, shape = MAKE[model_name]()
optimizer = torch.optim.AdamW(model.parameters())
x = torch.randn(*shape)
def step():
    optimizer.zero_grad(); model(x).pow(2).mean().backward(); optimizer.step()
for _ in range(10):
    step()
print("ready", flush=True)
sys.stdin.readline()
import torch.optim.optimizer as hooks
probe = sys.modules["_vramtop_injected.probe.session"].session()
places = [hooks._global_optimizer_pre_hooks, hooks._global_optimizer_post_hooks,
          model._forward_pre_hooks, model._forward_hooks]
ours = [dict(place) for place in places]
def block(on):
    for place, own in zip(places, ours):
        place.clear(); place.update(own if on and hooked else {})
    steps, began, cpu = 0, time.perf_counter(), time.thread_time()
    while time.perf_counter() - began < BLOCK_S:
        step(); steps += 1
    return (time.perf_counter() - began) / steps, (time.thread_time() - cpu) / steps
block(True)
pairs = []
for number in range(count):
    # By chance: strict alternation would beat with whatever else happens once a second.
    order = dice.sample((True, False), 2)
    got = {on: block(on) for on in order}
    pairs.append((got[True], got[False]))
probe_overhead = 100 * probe.pace.overhead(time.perf_counter())
assert not probe.faults.messages, probe.faults.messages
print(json.dumps({"pairs": pairs, "overhead": probe_overhead,
                  "tensors": sum(1 for _ in model.parameters())}))
""".replace("PACKAGE", repr(str(PACKAGE)), 1).replace("BLOCK_S", str(BLOCK_S))


def watch(directory: Path, pid: int) -> None:
    """A viewer at one sample a second, until the training ends."""
    (path,) = directory.glob(f"{pid}-*.sock")
    with socket.socket(socket.AF_UNIX) as viewer:
        viewer.connect(str(path))
        viewer.sendall(b'{"type":"subscribe","protocol":1,"period_s":1.0}\n')
        while viewer.recv(65536):
            pass


def measure(model: str, kind: str, pairs: int) -> dict[str, Any]:
    """One training process: [seconds, CPU seconds] a step with and without hooks, in pairs."""
    with tempfile.TemporaryDirectory(prefix="vt-", dir="/tmp") as directory:
        process = subprocess.Popen(
            [sys.executable, "-c", TRAINING, model, str(pairs), "" if kind == "A/A" else "hooked"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "VRAMTOP_RUNTIME_DIR": directory, "OMP_NUM_THREADS": "1"},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        if kind == "watched":
            arguments = (Path(directory), process.pid)
            threading.Thread(target=watch, args=arguments, daemon=True).start()
        process.stdin.write("\n")
        process.stdin.flush()
        result: dict[str, Any] = json.loads(process.stdout.readline())
        process.wait()
        return result


def row(model: str, kind: str, pairs: int) -> None:
    """Measure one model and print its line."""
    result = measure(model, kind, pairs)
    step_s = statistics.median(without[0] for _, without in result["pairs"])
    line = [f"{model:<9}", f"{result['tensors']:>7}", f"{kind:<9}"]
    line.append(f"{1000 * step_s:8.2f}")
    for which in (0, 1):
        ratios = sorted(on[which] / off[which] for on, off in result["pairs"])
        # 95 % interval of a median by order statistics (binomial, normal approximation).
        reach = 0.98 * math.sqrt(len(ratios))
        low = ratios[max(int(len(ratios) / 2 - reach), 0)]
        high = ratios[min(int(len(ratios) / 2 + reach), len(ratios) - 1)]
        line.append(f"{statistics.median(ratios):6.4f} [{low:.3f}–{high:.3f}]")
    line.append(f"{result['overhead']:6.3f}")
    print("  ".join(line), flush=True)


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=120, help="blocks with and without")
    options = parser.parse_args(arguments)
    print("\n## step time with / without the probe's hooks, median of neighbouring blocks [95 %]")
    print(f"{describe()}, load {os.getloadavg()[0]:.1f}\n")
    head = ("model    ", "tensors", "kind     ", "step, ms", "wall                ")
    print("  ".join((*head, "training thread's CPU", "own, %")))
    for model in ("gpt", "small-ops", "wide"):
        for kind in KINDS:
            row(model, kind, options.pairs)


if __name__ == "__main__":
    main(sys.argv[1:])
