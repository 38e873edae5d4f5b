import json
import os
import pty
import subprocess
import sys

import psutil
import pytest


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(tmp_path / "run"))

    def run(*arguments, **kwargs):
        return subprocess.run(
            [sys.executable, "-m", "vramtop", *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            **kwargs,
        )

    return run


def test_the_host_as_a_device_agrees_with_psutil(run):
    shown = json.loads(run("--once", "--json", "--backend", "host").stdout)
    memory = shown["devices"][0]["memory"]
    oracle = psutil.virtual_memory()
    assert memory["total_bytes"] == oracle.total
    assert abs(memory["used_bytes"] - (oracle.total - oracle.available)) < 1 << 30
    assert memory["used_bytes"] + memory["free_bytes"] == memory["total_bytes"]


def test_without_a_terminal_it_prints_once_and_says_so(run):
    done = run("--backend", "host")
    assert done.returncode == 0
    assert "standard input is not a terminal; printing one snapshot" in done.stderr
    assert "host RAM" in done.stdout


def test_a_dumb_terminal_is_refused(run):
    controller, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "vramtop", "--backend", "host"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "dumb"},
        timeout=60,
    )
    os.close(terminal)
    assert done.returncode == 0
    assert b"TERM=dumb cannot show the live screen" in os.read(controller, 1 << 16)
    os.close(controller)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--json"], "--json needs --once"),
        (["--interval", "0"], "'0' is not a number of 0.1 to 60"),
        (["--interval", "soon"], "'soon' is not a number of 0.1 to 60"),
        (["--backend", "tpu"], "invalid choice: 'tpu'"),
        (
            ["fly"],
            "no command 'fly'; there are: run, attach, demo, record, replay, estimate, plan, ",
        ),
    ],
)
def test_bad_usage_says_what_is_allowed_and_exits_2(run, arguments, said):
    done = run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_config_is_one_line(run, tmp_path):
    (tmp_path / "vramtop").mkdir()
    (tmp_path / "vramtop" / "config.toml").write_text("backend = 1")
    done = run("--once")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_that_leaves_is_no_error():
    done = subprocess.run(
        f"{sys.executable} -m vramtop --once --json --backend host | head -1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "{\n"
    assert done.stderr == ""


def test_doctor_says_what_to_do(run):
    done = run("doctor")
    assert done.returncode == 0
    for subject in ("driver", "rendezvous", "ptrace", "torch", "terminal"):
        assert subject in done.stdout
    assert "standard input is not a terminal" in done.stdout


def test_doctor_fails_on_a_planted_directory(run, tmp_path):
    (tmp_path / "run").symlink_to("/etc")
    done = run("doctor")
    assert done.returncode == 1
    assert "FAIL  rendezvous" in done.stdout


def test_version(run):
    import vramtop

    assert run("--version").stdout.strip() == f"vramtop {vramtop.__version__}"
