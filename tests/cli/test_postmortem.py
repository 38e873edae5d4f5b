"""``vramtop postmortem`` on files of trainings that really failed, and on files by strangers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vramtop.cli import run_command
from vramtop.protocol.postmortem import MAX_FILE_BYTES, SCHEMA, SUFFIX

SCRIPT = Path(__file__).parents[1] / "probe" / "oom_training.py"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a vramtop command in a rendezvous directory of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "vramtop", *map(str, arguments)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )

    return run


@pytest.fixture
def told(capsys):
    """The same in this process: exit code, output, errors."""

    def told(path):
        code = run_command(["postmortem", str(path)])
        return (code, *capsys.readouterr())

    return told


def words(text):
    return " ".join(text.split())


def test_a_real_training_that_fails_is_told_of(run, tmp_path):
    died = run("run", "--", sys.executable, SCRIPT, "-", "forward")
    assert died.returncode == 1
    (path,) = (tmp_path / "run").glob(f"*{SUFFIX}")
    done = run("postmortem")
    assert (done.returncode, done.stderr) == (0, "")
    shown = words(done.stdout)
    # 32768 samples by 8192 features of fp32 are 1 GiB.
    assert "step 12, forward of 2.up: asked 1.00 GiB, " in shown
    assert "left of an address space of" in shown
    assert "raise the limit of its address space" in shown
    assert "parameters 4.22 MiB" in shown
    assert "RuntimeError: [enforce fail" in shown
    assert f"written by the training itself: {path}" in shown
    assert "others:" not in done.stdout
    pid = path.name.partition("-")[0]
    assert f"written by the training itself: {path}" in words(run("postmortem", pid).stdout)
    said = f"process 1{pid} has left no post-mortem; these have: {pid}"
    assert run("postmortem", f"1{pid}").stderr == f"vramtop: {said}\n"

    report = json.loads(run("postmortem", path, "--json").stdout)
    assert report["failure"]["requested_bytes"] == 1 << 30
    assert report["failure"]["module"] == "2.up"
    assert report["sentence"] in shown
    assert report["process"]["probe"]["models"][0]["class"] == "Sequential"

    # A second one is the newest; the first is listed, and so is what cannot be read.
    assert run("run", "--", sys.executable, SCRIPT, "-", "step").returncode == 1
    (tmp_path / "run" / f"0{SUFFIX}").write_text("{}")
    (tmp_path / "run" / f"0{SUFFIX}").touch()
    newest = sorted((tmp_path / "run").glob(f"*{SUFFIX}"), key=lambda p: p.stat().st_mtime)
    newest[-1].unlink()
    done = run("postmortem")
    assert "optimizer step: asked 64.0 MiB" in words(done.stdout)
    (listed,) = done.stdout.partition("\nothers:\n")[2].splitlines()
    assert listed.split()[2] == "OOM"
    assert listed.endswith(str(path))


def test_where_there_is_none_it_says_how_they_come(run):
    done = run("postmortem")
    assert done.returncode == 1
    assert "no training has left a post-mortem in" in done.stderr
    assert "vramtop run" in done.stderr


WHOLE = {
    "schema": SCHEMA,
    "written_at": 1.0,
    "written_by": "probe",
    "pid": 1,
    "failure": {"type": "oom", "at": 1.0},
    "messages": [],
}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no post-mortem: it is not JSON"),
        (json.dumps(WHOLE).encode()[:-9], "is no post-mortem: it is not JSON"),
        (b"[" * 100_000, "is no post-mortem: it is not JSON"),
        (b'{"schema": "vramtop.snapshot/1"}', "is no post-mortem of this version"),
        (b"x" * (MAX_FILE_BYTES + 1), "is larger than one may be"),
        (json.dumps({**WHOLE, "pid": -1}).encode(), "is damaged"),
        (json.dumps({**WHOLE, "failure": {"type": "joy", "at": 1}}).encode(), "is damaged"),
        (json.dumps({**WHOLE, "messages": [{"type": "sample", "at": "x"}]}).encode(), "is damaged"),
    ],
)
def test_files_by_strangers_are_one_line(told, tmp_path, content, said):
    path = tmp_path / "given.json"
    path.write_bytes(content)
    code, out, err = told(path)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert err.startswith("vramtop: ")
    assert said in err


def test_what_is_no_file_is_one_line(told, tmp_path):
    for path in (tmp_path, tmp_path / "none", "/dev/zero"):
        code, _, err = told(path)
        assert code == 1
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    "prediction",
    [{}, {"moments": 3}, {"moments": [{"name": "peak", "categories": {"parameter": 7}}]}],
)
def test_the_least_that_a_file_may_say_is_told(told, tmp_path, prediction):
    path = tmp_path / "given.json"
    path.write_text(json.dumps({**WHOLE, "prediction": prediction}))
    code, out, err = told(path)
    assert (code, err) == (0, "")
    assert "before the first step: memory ran out" in out
