import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import psutil
import pytest

import vramtop
from vramtop.sources.probes import ProbeClients

TRAINING = str(Path(vramtop.__file__).parent / "cli" / "demo_training.py")

# GPT-2's size by its paper's shapes: two embeddings, and in each layer four matrices of the
# attention's and eight of the MLP's d × d with their biases, and two layer norms; one at the end.
WIDTH, LAYERS, VOCABULARY, TOKENS = 256, 6, 8192, 128
PARAMETERS = (VOCABULARY + TOKENS) * WIDTH + LAYERS * (12 * WIDTH**2 + 13 * WIDTH) + 2 * WIDTH


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "tmp").mkdir()
    return {
        **os.environ,
        "VRAMTOP_RUNTIME_DIR": str(tmp_path / "run"),
        "XDG_CONFIG_HOME": str(tmp_path),
        "TMPDIR": str(tmp_path / "tmp"),
        "CUDA_VISIBLE_DEVICES": "",
    }


@pytest.fixture
def demo(environment):
    def demo(*arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "vramtop", "demo", "--backend", "host", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return demo


@pytest.fixture
def training_of():
    def training_of(process):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for child in psutil.Process(process.pid).children():
                if TRAINING in " ".join(child.cmdline()):
                    return child
            time.sleep(0.02)
        raise AssertionError("the demo has started no training")

    return training_of


def has_ended(process):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        # A zombie has ended too; an orphaned one waits for init.
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_once_shows_a_real_training_and_ends_it(demo, tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    monkeypatch.setattr("vramtop.protocol.rendezvous.scan_directories", lambda: [run])
    process, watching, out = demo("--once", "--json"), ProbeClients(0.5), None
    while out is None:
        watching.read()
        with contextlib.suppress(subprocess.TimeoutExpired):
            out, err = process.communicate(timeout=0.1)
    assert (process.returncode, err) == (0, "")
    # For another who watches it ends in order: no alarm, no post-mortem.
    assert [probe.ended for probe in watching.read()[0].values()] == ["exit"]
    watching.close()
    shown = json.loads(out)
    assert shown["schema"] == "vramtop.snapshot/1"
    (row,) = [p for p in shown["processes"] if p["probe"]["state"] != "none"]
    probe = row["probe"]
    assert probe["step"] >= 2
    assert probe["model"]["class"] == "GPT2LMHeadModel"
    assert probe["model"]["parameters"] == probe["model"]["trainable_parameters"] == PARAMETERS
    (device,) = probe["devices"]
    assert device["device"] == "cpu"
    breakdown = device["breakdown"]
    assert breakdown["parameter_bytes"] == breakdown["gradient_bytes"] == 4 * PARAMETERS
    # AdamW: two moments a parameter, and one step counter a parameter tensor.
    tensors = 2 + 12 * LAYERS + 2
    assert breakdown["optimizer_state_bytes"] == 2 * 4 * PARAMETERS + 4 * tensors
    assert row["host_rss_bytes"] > 16 * PARAMETERS
    assert not psutil.pid_exists(row["pid"])
    assert list((tmp_path / "tmp").glob("vramtop-demo-*")) == []


def test_the_training_dies_with_a_killed_demo(demo, training_of):
    process = demo("--once")
    training = training_of(process)
    process.kill()
    process.communicate()
    assert has_ended(training)


def test_ctrl_c_ends_both(demo, training_of, tmp_path):
    process = demo("--once")
    training = training_of(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    # An interrupt within an import makes CPython die of the signal itself; for shells both are 130.
    assert (process.returncode, err) in {(130, ""), (-signal.SIGINT, "")}
    assert has_ended(training)
    assert list((tmp_path / "tmp").glob("vramtop-demo-*")) == []


def test_a_training_that_fails_is_explained(environment, demo, tmp_path):
    broken = tmp_path / "broken" / "transformers"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('wrong version of something')\n")
    environment["PYTHONPATH"] = str(broken.parent)
    process = demo("--once", "--json")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    first, *log = err.splitlines()
    assert first.startswith("vramtop: the demo training ended by itself (exit code 1); the log ")
    assert log[-1].strip() == "RuntimeError: wrong version of something"
    (kept,) = (tmp_path / "tmp").glob("vramtop-demo-*/training.log")
    assert str(kept) in first


@pytest.mark.parametrize("absent", ["torch", "transformers"])
def test_without_torch_it_says_what_to_install(environment, absent):
    code = f"""
import sys
sys.modules[{absent!r}] = None  # what importlib takes for "there is none"
from vramtop.cli import run_command
sys.exit(run_command(["demo", "--once"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert f"needs {absent};" in line
    assert "pip install -e '.[torch]'" in line


def test_the_training_by_itself_is_seeded():
    """As the benchmarks run it."""
    command = [sys.executable, "-P", TRAINING, "--device", "cpu", "--steps", "2"]
    runs = [
        subprocess.Popen([*command, "--seed", seed], stdout=subprocess.PIPE, text=True)
        for seed in ("1", "1")
    ]
    losses = []
    for run in runs:
        lines = [line.split() for line in run.communicate(timeout=120)[0].splitlines()]
        assert [line[:2] for line in lines] == [["step", "1"], ["step", "2"]]
        losses.append([line[3] for line in lines])
    assert losses[0] == losses[1]


def test_the_app_shows_the_training_and_quitting_ends_it(environment, training_of):
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "vramtop", "demo", "--backend", "host"],
        env={**environment, "TERM": "xterm-256color"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    try:
        training = training_of(process)
        screen = b""
        deadline = time.monotonic() + 60
        asked = False
        while b"GPT2LMHeadModel" not in screen:
            assert time.monotonic() < deadline, screen[-2000:]
            if not asked and b"Processes" in screen:
                os.write(controller, b"6")  # its modules, wherever there is room for them
                asked = True
            if select.select([controller], [], [], 1)[0]:
                screen += os.read(controller, 1 << 16)
        os.write(controller, b"q")
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([controller], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):  # the other end has closed
                    os.read(controller, 1 << 16)
        os.close(controller)
    finally:
        process.terminate()  # should it not have ended
    assert process.returncode == 0
    assert has_ended(training)
