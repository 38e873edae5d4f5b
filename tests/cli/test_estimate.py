"""``vramtop estimate`` as its user has it: exit codes, outputs, one line for every mistake."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from vramtop import predict
from vramtop.cli import estimate as command
from vramtop.cli import run_command
from vramtop.estimator.judge import judge
from vramtop.estimator.result import COMPONENTS, Footprint, PhaseUse

GIB = 1 << 30


class Line:
    """12 GiB and 2 more a sample."""

    def process_bytes(self, batch):
        return (12 + 2 * batch) * GIB

    def at(self, batch):
        size = self.process_bytes(batch)
        components = dict.fromkeys(COMPONENTS, 0) | {
            "parameter": 12 * GIB,
            "activation": 2 * batch * GIB,
        }
        phases = (PhaseUse("load", 12 * GIB, 12 * GIB), PhaseUse("forward", size, size))
        return Footprint("trace", components, phases, size, size, size, "forward")


@pytest.fixture
def answered(monkeypatch):
    """The command with a prediction that is known."""
    asked = []

    def estimate(workload, method="auto", progress=None):
        asked.append((workload, method, progress))
        return judge(Line(), workload, lambda changed: Line())

    monkeypatch.setattr(predict, "estimate", estimate)
    monkeypatch.setattr(command, "_true_footprint", lambda workload: Line().at(workload.batch))
    return asked


def test_text(answered, capsys):
    assert run_command(["estimate", "llama-2-7b", "--gpu", "a100-80gb", "--batch", "3"]) == 0
    said = capsys.readouterr()
    assert "meta-llama/Llama-2-7b-hf" in said.out
    assert "18.0 GiB" in said.out
    assert "FITS" in said.out
    assert said.err == ""
    ((workload, method, progress),) = answered
    assert (workload.batch, method, progress) == (3, "auto", None)


def test_json(answered, capsys):
    assert run_command(["estimate", "llama-2-7b", "--vram", "24GiB", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["schema"] == "vramtop.estimate/1"
    assert value["device"]["total_bytes"] == 24 * GIB
    assert value["totals"]["process_bytes"] == 14 * GIB


@pytest.mark.parametrize(("vram", "code"), [("80GiB", 0), ("14.3GiB", 1), ("8GiB", 1)])
def test_check_is_0_only_where_it_surely_fits(answered, vram, code, capsys):
    arguments = ["estimate", "llama-2-7b", "--vram", vram]
    assert run_command([*arguments, "--check"]) == code
    assert run_command(arguments) == 0


def test_seed_has_the_true_figure_beside(answered, capsys):
    assert run_command(["estimate", "llama-2-7b", "--method", "seed"]) == 0
    assert "TRUE" in capsys.readouterr().out


MISTAKES = [
    ([], "needs a MODEL"),
    (["no-such-model"], "no model 'no-such-model'"),
    (["lama-2-7b"], "did you mean"),
    (["llama-2-7b", "--batch", "0"], "--batch 0: it must be 1 or more"),
    (["llama-2-7b", "--batch", "many"], "invalid int value"),
    (["llama-2-7b", "--gpu", "9999x"], "no GPU"),
    (["llama-2-7b", "--vram", "24"], "write 24GiB"),
    (["llama-2-7b", "--gpu", "t4", "--vram", "16GiB"], "not allowed with"),
    (["llama-2-7b", "--tp", "3", "--gpus", "3"], "does not divide the 32 heads"),
    (["llama-2-7b", "--seq", "5000"], "at most 4096"),
    (["gpt2", "--batch", str(10**20)], "must be 1,048,576 or less"),
    (["llama-2-7b", "--precision", "int8"], "cannot train int8"),
    (["llama-2-7b", "--method", "guess"], "there are: auto, trace, closed-form, seed"),
    (["llama-2-7b", "--check"], "--check needs a device"),
    (["llama-2-7b", "--colour", "red"], "unrecognized arguments"),
    ([""], "MODEL is empty"),
    ([" "], "MODEL is empty"),
    (["nowhere.py"], "there is no file nowhere.py"),
    (["some-org/nothing"], "HF_HUB_OFFLINE=1 asks none"),
    (["llama-2-7b", "--mode", "inference", "--checkpointing", "full"], "only for --mode training"),
]


@pytest.mark.parametrize(("arguments", "said"), MISTAKES, ids=[said for _, said in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(arguments, said, capsys, monkeypatch):
    monkeypatch.setattr("vramtop.cli.model_source._ASK_TIMEOUT_S", 0.01)
    assert run_command(["estimate", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert said in line


@pytest.mark.parametrize("ending", ["", ":", ":2b", ":make model"])
def test_code_needs_the_name_of_a_function(tmp_path, ending, capsys):
    script = tmp_path / "mine.py"
    script.write_text("def build(): ...")
    assert run_command(["estimate", f"{script}{ending}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{script} is code: write {script}:FUNCTION" in line


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ValueError('one\\ntwo\\nthree')", "cannot be imported: ValueError: one"),
        ("def build(: ...", "cannot be imported: SyntaxError: "),
        ("import sys; sys.exit(3)", "cannot be imported: it ends the process (sys.exit)"),
        ("def build(): raise KeyError", "failed: KeyError"),
        ("", "has no function 'build'"),
        ("build = 3", "has something that cannot be called as 'build'"),
        ("def build(): raise SystemExit('usage:\\n  ...')", "failed: it ends the process"),
    ],
)
def test_what_a_users_module_raises_is_one_line(tmp_path, code, said, capsys):
    script = tmp_path / "mine.py"
    script.write_text(code)
    assert run_command(["estimate", f"{script}:build", "--method", "trace"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith(f"vramtop: {script}")
    assert said in line


def test_options_of_training_alone_get_a_note_in_inference(answered, capsys):
    arguments = ["estimate", "llama-2-7b", "--mode", "inference", "--json"]
    assert run_command(arguments) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []
    assert (
        run_command([*arguments, "--optimizer", "sgd", "--lora", "8", "--lora-dropout", "0"]) == 0
    )
    said = json.loads(capsys.readouterr().out)["notes"]
    assert [note.split(" changes nothing")[0] for note in said] == ["--optimizer", "--lora-dropout"]
    assert run_command(["estimate", "llama-2-7b", "--optimizer", "sgd", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []


def test_corrupt_config(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"model_type": "llama", "num_hidden_layers": -1}')
    assert run_command(["estimate", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is corrupt: num_hidden_layers is -1" in line


SLOW = """
import sys, time
from vramtop import predict
def estimate(workload, method="auto", progress=None):
    progress("tracing", 0.5)
    time.sleep(60)
predict.estimate = estimate
from vramtop.cli import run_command
sys.exit(run_command(["estimate", "llama-2-7b"]))
"""


ASKING = """
import sys, time
from vramtop.cli import model_source, run_command
from vramtop.trace import client
client.why_not = lambda: None
def wait(*words, **options):
    time.sleep(60)
model_source.subprocess.run = wait
sys.exit(run_command(["estimate", "some-org/nothing"]))
"""


@pytest.mark.parametrize(
    ("code", "shown"), [(SLOW, b"tracing"), (ASKING, b"asking hub.test for some-org/nothing")]
)
def test_ctrl_c_ends_it_with_130_and_a_clean_line(code, shown):
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=follower,
        env={**os.environ, "HF_ENDPOINT": "https://hub.test", "COLUMNS": "80"},
    )
    os.close(follower)
    said = b""
    deadline = time.monotonic() + 20
    while shown not in said and time.monotonic() < deadline:
        said += os.read(leader, 1024)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    with contextlib.suppress(OSError):  # EIO: all has been read
        while more := os.read(leader, 4096):
            said += more
    os.close(leader)
    assert process.stdout.read() == b""
    process.stdout.close()
    assert b"Traceback" not in said
    assert said.endswith(b"\r")
