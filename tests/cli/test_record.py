"""``vramtop record`` and ``vramtop replay`` on the command line, with a real training."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import read_recording
from vramtop.cli.record import _Watched
from vramtop.sources.fake import snapshots

DEMO = Path(__file__).parents[1] / "recordings" / "demo.vramtop"
TRAINING = """
import time
import torch

model = torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.Linear(512, 1))
optimizer = torch.optim.AdamW(model.parameters())
while True:
    model(torch.ones(8, 512)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    time.sleep(0.05)
"""


@pytest.fixture
def environment(tmp_path):
    return {
        **os.environ,
        "VRAMTOP_RUNTIME_DIR": str(tmp_path / "run"),
        "XDG_CONFIG_HOME": str(tmp_path),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def call(environment):
    """``call("replay", …)``: run a command to its end."""

    def call(*arguments):
        command = [sys.executable, "-m", "vramtop", *map(str, arguments)]
        return subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )

    return call


@pytest.fixture
def recorder(environment, tmp_path):
    """Recorders that are started; they are ended with the test."""
    started = []

    def start(*arguments):
        command = [sys.executable, "-m", "vramtop", "record", tmp_path / "a.vramtop", *arguments]
        process = subprocess.Popen(
            [*command, "--backend", "host", "--interval", "0.1"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def wait_for_snapshots(path, count=3, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not path.exists() or not path.stat().st_size or len(read_recording(path)[0]) < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_ended_well_by_a_signal(recorder, tmp_path, number):
    process = recorder()
    path = tmp_path / "a.vramtop"
    wait_for_snapshots(path)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    found, ending = read_recording(path)
    assert ending == ""
    assert said.startswith(f"vramtop: {len(found)} snapshots, ")
    assert said.endswith(f"0 trainings: {path}\n")
    assert len(said.splitlines()) == 1


def test_seconds_end_it_and_the_file_grows_with_the_next(recorder, tmp_path):
    path = tmp_path / "a.vramtop"
    assert recorder("--seconds", "0.5").wait(30) == 0
    before = len(read_recording(path)[0])
    assert before >= 1
    assert recorder("--seconds", "0.5").wait(30) == 0
    found, ending = read_recording(path)
    assert ending == ""
    assert len(found) > before


def test_trainings_that_have_ended_meanwhile_are_counted_too():
    recorder = SimpleNamespace(count=7, dropped=0, written_bytes=2048, take=lambda _: None)
    watched = _Watched(recorder)
    for snapshot in islice(snapshots("fleet"), 2):
        watched.take(snapshot)
    streaming = sum(process.probe.state == "streaming" for process in snapshot.processes)
    watched.take(replace(snapshot, processes=()))
    assert watched.said == f"7 snapshots, 2.00 KiB, {streaming} trainings"


def test_a_killed_recorder_leaves_a_recording_of_the_training(
    recorder, environment, call, tmp_path
):
    pytest.importorskip("torch")
    command = [sys.executable, "-m", "vramtop", "run", "--", sys.executable, "-c", TRAINING]
    training = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    path = tmp_path / "a.vramtop"
    process = recorder()
    try:
        deadline = time.monotonic() + 120
        step = None
        while not step or step < 2:
            assert time.monotonic() < deadline
            assert training.poll() is None
            time.sleep(0.2)
            found = read_recording(path)[0] if path.exists() and path.stat().st_size else []
            probes = (
                [p.probe for p in found[-1].processes if p.pid == training.pid] if found else []
            )
            step = probes[0].step if probes else None
        process.kill()
        process.wait()
    finally:
        training.kill()
        training.wait()
    whole, ending = read_recording(path)
    assert ending
    done = call("replay", path, "--once", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"vramtop: {ending}\n"
    shown = json.loads(done.stdout)
    (row,) = [p for p in shown["processes"] if p["pid"] == training.pid]
    (last,) = [p for p in whole[-1].processes if p.pid == training.pid]
    assert row["probe"]["step"] == last.probe.step >= 2
    assert row["probe"]["model"]["class"] == "Sequential"
    breakdown = row["probe"]["devices"][0]["breakdown"]
    assert breakdown["parameter_bytes"] == last.probe.devices[0].breakdown.parameter_bytes > 0
    assert row["prediction"] is None
    # And the next recorder goes on where that one was killed.
    assert recorder("--seconds", "0.3").wait(30) == 0
    found, ending = read_recording(path)
    assert ending == ""
    assert found[: len(whole)] == whole
    assert len(found) > len(whole)


def test_a_moment_of_a_recording_is_printed(call, recorded):
    done = call("replay", DEMO, "--once", "--json", "--at", "15")
    assert (done.returncode, done.stderr) == (0, "")
    shown = json.loads(done.stdout)
    expected = [s for s in recorded if s.taken_at - recorded[0].taken_at <= 15][-1]
    assert shown["host"]["ram_used_bytes"] == expected.host.ram_used_bytes
    done = call("replay", DEMO, "--once")
    assert done.returncode == 0
    assert "host RAM" in done.stdout


def test_without_a_terminal_the_last_snapshot_is_printed(call):
    done = call("replay", DEMO)
    assert done.returncode == 0
    assert "is not a terminal; printing the last snapshot (--once)" in done.stderr
    assert "host RAM" in done.stdout


def test_what_cannot_be_done_is_one_line(call, tmp_path):
    precious = tmp_path / "thesis.txt"
    precious.write_text("precious")
    empty = tmp_path / "empty.vramtop"
    for arguments, code, words in (
        (("record", precious, "--seconds", "1"), 1, "is no recording of vramtop"),
        (("record", tmp_path / "no" / "a", "--seconds", "1"), 1, "No such file or directory"),
        (("record",), 2, "FILE"),
        (("record", "a", "--seconds", "0"), 2, "not a number of seconds above 0"),
        (("record", "a", "--backend", "nvml"), 3, "NVIDIA"),
        (("replay", precious), 1, "is no recording of vramtop"),
        (("replay", empty), 1, "No such file or directory"),
        (("replay", DEMO, "--json"), 2, "--json needs --once"),
        (("replay", DEMO, "--at", "3"), 2, "--at needs --once"),
        (("replay", DEMO, "--once", "--at", "nan"), 2, "--at"),
        (("replay", DEMO, "--once", "--at", "-1"), 2, "--at"),
    ):
        done = call(*arguments)
        assert (done.returncode, done.stdout) == (code, ""), done
        assert words in done.stderr
        *notices, said = done.stderr.splitlines()
        assert words in said
        assert len(notices) <= 1
    assert precious.read_text() == "precious"
