"""Two ranks of a real torchrun, one with the larger batch: one row that names it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.stack.screen import Screen

pytest.importorskip("torch")

SCRIPT = Path(__file__).with_name("uneven_ranks.py")
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(SCRIPT))
VRAMTOP = (sys.executable, "-m", "vramtop")


@pytest.fixture
def env(tmp_path):
    return {
        **os.environ,
        "VRAMTOP_RUNTIME_DIR": str(tmp_path / "run"),
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def training(env, tmp_path):
    stop = tmp_path / "stop"
    process = subprocess.Popen(
        [*VRAMTOP, "run", "--", sys.executable, "-m", *TORCHRUN, str(stop)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert sorted(process.stdout.readline() for _ in range(2)) == [b"rank 0\n", b"rank 1\n"]
    yield process
    stop.touch()
    with suppress(subprocess.TimeoutExpired):
        process.wait(30)
    process.terminate()  # torchrun then ends its ranks, which have sessions of their own
    process.wait(30)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def rss_by_rank(training):
    """Resident bytes of the two ranks now, by the kernel's account, the smaller first."""
    ranks = [
        process
        for process in psutil.Process(training.pid).children(recursive=True)
        if "torch.distributed.run" not in process.cmdline()
    ]
    assert len(ranks) == 2
    return sorted(process.memory_info().rss for process in ranks)


def test_two_ranks_are_one_row_that_names_the_fuller_one(env, training):
    with Screen("--backend", "host", env=env) as screen:
        text = screen.wait_until(lambda text: re.search(r"▸ +×2 ", text), "folded", 60)
        screen.wait_for("fullest r1", timeout_s=60)
        text = screen.wait_until(
            lambda text: re.search(r"▸ +×2 .* r1 [\d.]+ [MG]iB \+\d+%.*streaming", text),
            "the fullest rank named",
            60,
        )
        row = next(line for line in text.splitlines() if "▸" in line)
        shown = int(re.search(r"\+(\d+)%", row)[1])
        # A training's RSS rises and falls within a step.
        found = [rss_by_rank(training) for _ in range(60) if not time.sleep(0.05)]
        above = [100 * (2 * high / (low + high) - 1) for low, high in found]
        assert min(above) - 15 <= shown <= max(above) + 15
        assert shown > 20
        screen.send("f")
        text = screen.wait_for("  r0 ", "  r1 ", "▾")
        listed = [line for line in text.splitlines() if re.search(r"  r[01] \S*python", line)]
        assert [re.search(r"  (r[01]) ", line)[1] for line in listed] == ["r1", "r0"]
        screen.send("q")
        assert screen.exit_code() == 0

    once = subprocess.run(
        [*VRAMTOP, "--once", "--backend", "host"], env=env, capture_output=True, text=True
    ).stdout
    assert re.search(r"(?m)^ *×2 .*\[r1 [\d.]+ [MG]iB \+\d+%\]", once)
    assert "rank 1, the fullest of 2" in once
    done = subprocess.run(
        [*VRAMTOP, "--once", "--json", "--backend", "host"], env=env, capture_output=True
    )
    probes = [process["probe"] for process in json.loads(done.stdout)["processes"]]
    groups = {probe["rank"]: probe["group"] for probe in probes if probe["rank"] is not None}
    assert set(groups) == {0, 1}
    assert groups[0]
    assert groups[0] == groups[1]
