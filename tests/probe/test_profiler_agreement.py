"""What the probe says of one step equals what torch.profiler's memory timeline says of it.

The oracle's own differences from the profiler, each with its reason, are ``RULES`` in
``oracle/timeline.py``; ``python -m tests.probe.oracle`` prints its tables and what each rule moved.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.probe.conftest import PREAMBLE, RawViewer, find_socket
from tests.probe.oracle.models import CASES

CATEGORIES = (
    "parameter",
    "gradient",
    "optimizer_state",
    "activation",
    "input",
    "temporary",
    "autograd_detail",
    "unknown",
)
TOLERANCE = 0.03
REENTRANT = ("gpt2-eager", "bert", "mlp", "lora", "wide")
CELLS = [
    (case, mode)
    for case in CASES
    for mode in (
        "fp32",
        "autocast",
        "checkpoint-reentrant" if case in REENTRANT else "checkpoint",
    )
]
ROOT = Path(__file__).parents[2]


class Trainings:
    """The same training in two processes: one profiled, one probed."""

    def __init__(self, directory: Path, runtime_dir: str) -> None:
        self._directory = directory
        self._profiled = self._start("profile", "", runtime_dir)
        self._probed = self._start("train", PREAMBLE, runtime_dir)
        self._viewer = RawViewer(find_socket(runtime_dir, self._probed.pid))

    def _start(self, what: str, preamble: str, runtime_dir: str) -> subprocess.Popen:
        script = self._directory / f"probed_{what}.py"
        script.write_text(
            f"{preamble}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            f"from tests.probe.oracle import child\nchild.{what}()\n"
        )
        with (self._directory / f"{what}.err").open("w") as errors:
            return subprocess.Popen(
                [sys.executable, str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "VRAMTOP_RUNTIME_DIR": runtime_dir},
            )

    def run(self, case: str, mode: str) -> tuple[dict, dict]:
        """(the profiler's moments, the probe's detail message)."""
        asked = time.time()
        for process in (self._profiled, self._probed):
            process.stdin.write(f"{case} {mode}\n")
            process.stdin.flush()
        assert self._answer(self._probed, "train") == "trained\n"
        profiler = json.loads(self._answer(self._profiled, "profile"))
        told = self._viewer.next("detail")
        while told["at"] < asked:
            told = self._viewer.next("detail")
        assert told["device"] == "cpu"
        return profiler, told

    def _answer(self, process: subprocess.Popen, what: str) -> str:
        while line := process.stdout.readline():
            if line[0] in "{t":
                return line
        raise AssertionError((self._directory / f"{what}.err").read_text()[-2000:])

    def close(self) -> None:
        self._viewer.close()
        for process in (self._profiled, self._probed):
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    runtime_dir = tempfile.mkdtemp(prefix="vt-", dir="/tmp")
    both = Trainings(tmp_path_factory.mktemp("agreement"), runtime_dir)
    yield both
    both.close()
    shutil.rmtree(runtime_dir, ignore_errors=True)


def differences(told: dict, expected: dict) -> list[str]:
    """Where a breakdown is not the profiler's, in words."""
    allocated = sum(expected["sizes"].values())
    found = []
    for category in CATEGORIES:
        says, ought = told[f"{category}_bytes"], expected["sizes"].get(category, 0)
        if abs(says - ought) > TOLERANCE * allocated:
            found.append(f"{category} {says:,} for {ought:,} of {allocated:,}")
    return found


@pytest.mark.parametrize(("case", "mode"), CELLS)
def test_profiler_agrees(case, mode, trainings):
    profiler, detail = trainings.run(case, mode)
    phases = {phase["name"]: phase for phase in detail["phases"]}
    wrong = {
        name: differences(phases[name]["after"], profiler[name])
        for name in ("forward", "backward", "step", "zero_grad")
    }
    peak = detail["peak"]
    wrong["peak"] = differences(peak["breakdown"], profiler["peak"])
    assert not any(wrong.values()), wrong
    assert peak["phase"] == profiler["peak"]["phase"].replace("root", "forward")

    for total, breakdown in [
        *((phase["after_bytes"], phase["after"]) for phase in detail["phases"]),
        (peak["total_bytes"], peak["breakdown"]),
    ]:
        assert sum(breakdown[f"{category}_bytes"] for category in CATEGORIES) == total


def test_parts(trainings):
    """Of which nothing is said by the profiler: what is known of these models."""
    _, detail = trainings.run("mlp", "fp32")
    peak = detail["peak"]["breakdown"]
    assert peak["buffer_bytes"] == 256 * 1024 * 4
    assert peak["recomputed_bytes"] == peak["autocast_cache_bytes"] == 0

    _, detail = trainings.run("bert", "checkpoint")
    peak = detail["peak"]["breakdown"]
    assert peak["autograd_detail_bytes"] > peak["recomputed_bytes"] > 0
    assert peak["recomputed_bytes"] > peak["autograd_detail_bytes"] / 2
    assert peak["autocast_cache_bytes"] == 0

    # Autocast keeps a copy of every weight of a linear layer, in half the bytes, until its region
    # is left; the fullest moment of this model is in the last layer's forward.
    _, detail = trainings.run("mlp", "autocast")
    peak = detail["peak"]["breakdown"]
    weights = 1024 * 1024 + 1024 * 512 + 512 * 512
    assert peak["autocast_cache_bytes"] == pytest.approx(weights * 2, rel=0.01)
    assert peak["activation_bytes"] > peak["autocast_cache_bytes"]
