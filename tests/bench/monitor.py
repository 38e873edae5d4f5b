"""vramtop beside nvitop and gpustat on the same stand-in driver: start, paint, CPU, RSS.

The other two live in a virtual environment of their own (``.venv-bench``), made on first use.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from tests.bench.machine import print_table
from tests.bench.terminal import Terminal, has_painted, shows
from tests.standin.standin import Standin

OTHERS = ("nvitop==1.7.2", "gpustat==1.1.1")
VENV = Path(".venv-bench")
RUNS = 7
CPU_SECONDS = 20
SETTLE_SECONDS = 4
GPU_NAME = "NVIDIA H100 80GB HBM3"
ROOT = Path(__file__).parents[2]


def other_tools():
    """Install nvitop and gpustat into their own environment, if they are not there yet."""
    if not (VENV / "bin" / "nvitop").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin" / "pip", "install", "-q", *OTHERS], check=True)


def scenario(gpus, pids):
    """H100s that share the processes evenly."""
    each = len(pids) // gpus
    return {
        "gpus": [
            {
                "name": GPU_NAME,
                "uuid": f"GPU-{index:08d}-0000-0000-0000-000000000000",
                "total_bytes": 80 << 30,
                "reserved_bytes": 600 << 20,
                "used_bytes": 40 << 30,
                "processes": [
                    {"pid": pid, "used_bytes": 4 << 30, "list": "C"}
                    for pid in pids[index * each : (index + 1) * each]
                ],
            }
            for index in range(gpus)
        ]
    }


def once(argv, env):
    """Median seconds of a command from start to exit."""
    taken = []
    for _ in range(RUNS):
        started = time.perf_counter()
        subprocess.run(argv, env=env, stdout=subprocess.DEVNULL, check=True)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def first_paint(argv, env):
    """Median seconds to the first readable word and to the first GPU's name."""
    word, device = [], []
    for _ in range(RUNS):
        with Terminal(argv, env) as terminal:
            word.append(terminal.seconds_until(has_painted))
            device.append(terminal.seconds_until(shows("H100")))
    return statistics.median(word), statistics.median(device)


def steady(argv, env):
    """CPU percent of a core and peak RSS in MiB of a live screen, after it has settled."""
    with Terminal(argv, env) as terminal:
        terminal.read_for(SETTLE_SECONDS)
        cpu = terminal.cpu_percent(CPU_SECONDS)
        return cpu, terminal.peak_rss_mib()


@contextmanager
def sleepers(count):
    """Real processes for the stand-in to list, so that every tool finds them in /proc."""
    children = [subprocess.Popen(["sleep", "3600"]) for _ in range(count)]
    try:
        yield [child.pid for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()


@contextmanager
def swarm(count, env):
    """So many probes."""
    command = [sys.executable, "-m", "tests.bench.swarm", str(count)]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        parent.stdout.readline()
        yield
        parent.stdin.close()


def main():
    """Print the tables."""
    other_tools()
    bin_dir = Path(sys.executable).parent
    vramtop, other = str(bin_dir / "vramtop"), str(VENV / "bin") + "/"
    with tempfile.TemporaryDirectory() as folder:
        base = {**os.environ, "VRAMTOP_RUNTIME_DIR": f"{folder}/run", "XDG_CONFIG_HOME": folder}
        _against_others(vramtop, other, base, Path(folder))
        _with_probes(vramtop, base)


def _against_others(vramtop, other, base, folder):
    for gpus, processes in ((1, 4), (8, 8)):
        with sleepers(gpus * processes) as pids, Standin(folder) as standin:
            standin.write(scenario(gpus, pids))
            env = {**base, **standin.env}
            live = {
                "vramtop": [vramtop, "--interval", "1"],
                "nvitop": [other + "nvitop", "--monitor", "full", "--interval", "1"],
                "gpustat": [other + "gpustat", "--interval", "1"],
            }
            shot = {
                "vramtop": [vramtop, "--once"],
                "nvitop": [other + "nvitop", "--once"],
                "gpustat": [other + "gpustat"],
            }
            rows = []
            for name, argv in live.items():
                word, device = first_paint(argv, env)
                cpu, rss = steady(argv, env)
                rows.append(
                    (
                        name,
                        f"{once(shot[name], env):.3f}",
                        f"{word:.3f}",
                        f"{device:.3f}",
                        f"{cpu:.2f}",
                        f"{rss:.0f}",
                    )
                )
            print_table(
                f"{gpus} GPU × {processes} processes on the stand-in driver, 1 Hz",
                ("tool", "once s", "first paint s", "devices s", "CPU %", "peak RSS MiB"),
                rows,
            )


def _with_probes(vramtop, base):
    rows = []
    for interval in ("1", "0.1"):
        with swarm(64, base):
            cpu, rss = steady([vramtop, "--backend", "host", "--interval", interval], base)
        rows.append((f"64 probes at {1 / float(interval):g} Hz", f"{cpu:.2f}", f"{rss:.0f}"))
    print_table("vramtop with 64 probes, host backend", ("case", "CPU %", "peak RSS MiB"), rows)
