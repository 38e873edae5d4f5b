"""``vramtop.stage``: what is told of a program's own stages, and that it never gets in the way."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import vramtop
from vramtop.probe.stages import Stages
from vramtop.protocol.framing import MAX_LINE_BYTES, encode
from vramtop.protocol.messages import MAX_STAGES

REPOSITORY = Path(__file__).parents[2]
MIB = 1 << 20

USE = """
import json, sys, threading
import vramtop

def told():
    from vramtop.probe.stages import STAGES
    rows = STAGES.message()["stages"]
    return {row["path"]: row for row in rows if row["device"] == "cpu"}
"""


@pytest.fixture
def program(run):
    """Runs a program that can import vramtop: (stdout, stderr) of one that ends well."""

    def program(code, **options):
        code, out, err = run(USE + code, probed=False, PYTHONPATH=str(REPOSITORY), **options)
        assert code == 0, err
        return out, err

    return program


def cells(line):
    return re.split(" {2,}", line.strip())


def paths(stages):
    return [(row["path"], row["calls"]) for row in stages.message()["stages"]]


# Without torch.


def test_nested_and_decorated_and_without_torch(program):
    out, err = program("""
@vramtop.stage("work")
def work(n):
    "Does it."
    with vramtop.stage("part"):
        return bytearray(n << 20)

with vramtop.stage("all") as stage:
    kept = [work(64), work(64)]
work(1)
assert work.__name__ == "work" and work.__doc__ == "Does it."
assert "torch" not in sys.modules
print(json.dumps(told()))
""")
    rows = json.loads(out)
    assert err == ""
    calls = {path: row["calls"] for path, row in rows.items()}
    assert calls == {"all": 1, "all / work": 2, "all / work / part": 2, "work": 1, "work / part": 1}
    everything = rows["all"]
    assert 120 * MIB < everything["after_bytes"] - everything["before_bytes"] < 150 * MIB
    assert everything["peak_bytes"] >= everything["after_bytes"]
    # The second 64 MiB alone: a stage is told as of its last run.
    last = rows["all / work"]
    assert 60 * MIB < last["after_bytes"] - last["before_bytes"] < 80 * MIB


def test_what_is_gone_at_the_end_shows_in_the_peak(program):
    out, _ = program("""
with vramtop.stage("around"):
    with vramtop.stage("load"):
        bytearray(200 << 20)
print(json.dumps(told()))
""")
    rows = json.loads(out)
    for path in ("around", "around / load"):
        row = rows[path]
        assert row["after_bytes"] - row["before_bytes"] < 20 * MIB
        assert row["peak_bytes"] - row["before_bytes"] > 190 * MIB


def test_exceptions_threads_and_recursion(program):
    out, err = program("""
with vramtop.stage("around"):
    try:
        with vramtop.stage("fails"):
            raise KeyError("the user's own")
    except KeyError as error:
        assert error.args == ("the user's own",)

inside, go = threading.Event(), threading.Event()
def other():
    with vramtop.stage("other"):
        inside.set()
        go.wait()
thread = threading.Thread(target=other)
with vramtop.stage("main"):
    thread.start()
    inside.wait()
go.set()
thread.join()

depth = 0
@vramtop.stage("again")
def again(n):
    return n and again(n - 1)
again(300)
with vramtop.stage("after"):
    pass
print(json.dumps(told()))
""")
    rows = json.loads(out)
    assert err == ""
    assert {"around", "around / fails", "other", "main", "after"} <= set(rows)
    assert rows["again"]["calls"] == 1
    assert rows["again / again"]["calls"] == 1


def test_the_table_is_printed_if_asked_for_and_on_stderr_only(program):
    code = """
import os
with vramtop.stage("load", table={table}):
    with vramtop.stage("weights"):
        kept = bytearray(64 << 20)
if not os.fork():  # a child has nothing to say
    sys.exit()
os.wait()
"""
    assert program(code.format(table=False)) == ("", "")
    out, err = program(code.format(table=True))
    assert out == ""
    title, head, *rows = err.splitlines()
    assert title == "vramtop: memory by stage, in MiB"
    columns = [dict(zip(cells(head), cells(row), strict=True)) for row in rows]
    assert [row["stage"] for row in columns] == ["load", "load / weights"]
    assert {(row["device"], row["calls"]) for row in columns} == {("cpu (RSS)", "1")}
    for row in columns:
        assert 60 < float(row["change"]) < 80
        assert float(row["after"]) - float(row["before"]) == pytest.approx(
            float(row["change"]), abs=0.11
        )
    assert len({len(line) for line in (head, *rows)}) == 1


def test_a_wrong_name_is_the_callers_mistake():
    for name in (None, 3, b"bytes", ["list"]):
        with pytest.raises(TypeError, match=f"not {type(name).__name__}"):
            vramtop.stage(name)


def test_python_39(program, preamble, other_python):
    out, err = program(
        preamble.replace("boot.install()", "")
        + """
from _vramtop_injected.probe.api import stage
@stage("work", table=True)
def work():
    with stage("part"):
        pass
work()
""",
        python=other_python("3.9"),
    )
    assert out == ""
    assert "work / part" in err


@pytest.mark.parametrize("broken", ["_levels", "begin", "end"])
def test_it_never_raises_nor_takes_the_stage_around_for_its_own(program, broken):
    out, err = program(f"""
from vramtop.probe.stages import STAGES
with vramtop.stage("around"):
    whole = STAGES.{broken}
    STAGES.{broken} = lambda *_: 1 / 0
    try:
        with vramtop.stage("broken"):
            raise KeyError
    except KeyError:
        pass
    if {broken!r} == "_levels":
        STAGES.{broken} = whole
        rows = told()
        assert "around" not in rows, rows  # it has not ended yet
print("on")
""")
    assert (out, err) == ("on\n", "")


# Bounds.


def test_the_outer_stages_are_kept_when_there_are_too_many():
    stages = Stages()
    stages.begin("training")
    for epoch in range(2 * MAX_STAGES):
        stages.begin(f"epoch {epoch}")
        stages.end()
    stages.end()
    told = paths(stages)
    assert len(told) == MAX_STAGES
    assert ("training", 1) in told


def test_however_deep_a_line_stays_short():
    stages = Stages()
    for _ in range(5000):
        stages.begin("x" * 80)
    for _ in range(5000):
        stages.end()
    assert paths(stages)[0] == ("x" * 80, 1)
    assert len(encode(stages.message())) < MAX_LINE_BYTES / 4


def test_an_end_without_a_beginning_is_none():
    stages = Stages()
    stages.end()
    stages.begin("here")
    other = threading.Thread(target=stages.end)
    other.start()
    other.join()
    assert paths(stages) == []
    stages.end()
    assert paths(stages) == [("here", 1)]


# On CUDA: a stand-in with the calls that torch.cuda has, since there is no card here.


class Cuda:
    def __init__(self):
        self.allocated = self.peak = 0

    def set(self, allocated, peak):
        self.allocated, self.peak = allocated, max(self.peak, peak)

    def is_initialized(self):
        return True

    def device_count(self):
        return 1

    def get_device_properties(self, index):
        return SimpleNamespace(uuid="0", name="Stand-in")

    def memory_stats_as_nested_dict(self, index):
        one = {"current": self.allocated, "peak": self.peak}
        return {
            "allocated_bytes": {"all": one},
            "reserved_bytes": {"all": {"current": 1000, "peak": 1000}},
        }


def test_on_cuda_the_allocators_counters(monkeypatch):
    cuda, stages = Cuda(), Stages()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    cuda.set(100, 900)  # an earlier peak, not of these stages
    stages.begin("step")
    stages.begin("forward")
    cuda.set(400, 500)
    stages.end()
    stages.begin("backward")
    cuda.set(200, 950)
    stages.end()
    stages.end()
    stages.begin("step")
    cuda.set(150, 600)
    stages.end()
    rows = {r["path"]: r for r in stages.message()["stages"] if r["device"] == "cuda:0"}
    found = {
        path: (row["calls"], row["before_bytes"], row["after_bytes"], row["peak_bytes"])
        for path, row in rows.items()
    }
    assert found == {
        "step / forward": (1, 100, 400, 400),  # its own peak is hidden by the earlier one
        "step / backward": (1, 400, 200, 950),
        "step": (2, 200, 150, 950),  # the most over all runs, the last run's ends
    }


# To a viewer.

TRAINING = """
import sys
import vramtop
with vramtop.stage("imports"):
    import torch
with vramtop.stage("setup"):
    with vramtop.stage("model"):
        model = torch.nn.Linear(64, 64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    model(torch.randn(4, 64)).sum().backward()
    optimizer.step()
print("ready", flush=True)
sys.stdin.readline()
"""


def test_under_vramtop_run_they_arrive(runtime_dir, connect, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TRAINING)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    vramtop_command = [sys.executable, "-m", "vramtop"]
    with subprocess.Popen(
        [*vramtop_command, "run", "--", sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as training:
        try:
            assert training.stdout.readline() == "ready\n"
            message = connect(runtime_dir, training.pid).next("stages", 60)
            assert [row["path"] for row in message["stages"]] == [
                "imports",
                "setup",
                "setup / model",
            ]
            assert message["stages"][0]["after_bytes"] > message["stages"][0]["before_bytes"]
            deadline = time.monotonic() + 60
            while True:
                once = subprocess.run(
                    [*vramtop_command, "--once", "--json"],
                    capture_output=True,
                    text=True,
                    timeout=100,
                    env=environment,
                )
                found = stages_in(json.loads(once.stdout), training.pid)
                if found or time.monotonic() > deadline:
                    break
            assert found == ["imports", "setup", "setup / model"]
        finally:
            training.kill()


def stages_in(snapshot, pid):
    return [
        stage["path"]
        for process in snapshot["processes"]
        if process["pid"] == pid and process["probe"]
        for device in process["probe"].get("devices", [])
        for stage in device["stages"]
    ]
