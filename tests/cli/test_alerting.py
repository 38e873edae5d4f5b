"""``--on-alert`` runs real commands; what they leave in files is what they were told."""

import time
from pathlib import Path

import psutil
import pytest

from vramtop.cli.alerting import QUIET_S, AlertCommand
from vramtop.core.alerts import Alert

LEAK = Alert("forecast 7", "forecast", "OOM in ~14 min (pid 7)", 7, "GPU-0")
FULL = Alert("threshold GPU-0", "threshold", 'GPU 0 is "full"; $HOME', None, "GPU-0")


@pytest.fixture
def told(tmp_path):
    """What the commands have written, a line each."""
    file = tmp_path / "told"
    file.touch()
    return file


@pytest.fixture
def command(told):
    made = AlertCommand(
        f'echo "$VRAMTOP_ALERT_KIND|$VRAMTOP_ALERT_PID|$VRAMTOP_ALERT_DEVICE|$VRAMTOP_ALERT_TEXT"'
        f" >> {told}"
    )
    yield made
    made.close()


def wait(condition, limit_s=20.0):
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def lines(told: Path, count: int) -> list[str]:
    wait(lambda: len(told.read_text().splitlines()) >= count)
    return sorted(told.read_text().splitlines())


def children():
    return psutil.Process().children()


def test_the_command_is_told_what_it_is_about_as_text_not_as_shell(command, told):
    assert command.tell([LEAK, FULL], 100.0) == ""
    assert lines(told, 2) == [
        "forecast|7|GPU-0|OOM in ~14 min (pid 7)",
        'threshold||GPU-0|GPU 0 is "full"; $HOME',
    ]


def test_it_runs_once_and_again_only_after_the_alert_was_gone(command, told):
    for now in (100.0, 101.0, 130.0):
        command.tell([LEAK], now)
    for now in (131.0, 130.0 + QUIET_S - 1):  # gone, not for long enough
        command.tell([], now)
    command.tell([LEAK], 130.0 + QUIET_S)
    assert len(lines(told, 1)) == 1
    command.tell([], 300.0)
    command.tell([LEAK], 301.0)
    assert len(lines(told, 2)) == 2


def test_a_failure_is_said_once_and_nothing_is_left_behind():
    before = set(children())
    failing = AlertCommand("echo noise; echo noise >&2; exit 3")
    assert failing.tell([LEAK], 100.0) == ""
    said = wait(lambda: failing.tell([LEAK], 101.0))
    assert said == "alert command failed: exit code 3"
    assert failing.tell([LEAK], 102.0) == ""
    assert set(children()) <= before  # no zombie


def test_a_command_that_hangs_holds_nothing_up_and_ends_with_the_app(tmp_path):
    started = tmp_path / "started"
    hanging = AlertCommand(f"sleep 1000 & echo $! $$ > {started}; wait")
    began = time.monotonic()
    hanging.tell([LEAK], 100.0)
    assert time.monotonic() - began < 2
    pids = [int(word) for word in wait(lambda: started.exists() and started.read_text().split())]
    hanging.close()
    wait(lambda: not any(alive(pid) for pid in pids))


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_one_that_ignores_being_asked_is_killed(tmp_path):
    ready = tmp_path / "ready"
    stubborn = AlertCommand(f"trap '' TERM; touch {ready}; while :; do sleep 0.1; done")
    before = set(children())
    stubborn.tell([LEAK], 100.0)
    wait(ready.exists)
    stubborn.close()
    assert set(children()) <= before


def test_commands_that_hang_do_not_pile_up():
    before = len(children())
    hanging = AlertCommand("exec sleep 1000")
    try:
        alerts = [Alert(f"forecast {pid}", "forecast", "OOM", pid) for pid in range(30)]
        assert "still running" in hanging.tell(alerts, 100.0)
        assert len(children()) - before < 10
    finally:
        hanging.close()
    assert len(children()) == before


def test_a_command_that_cannot_be_run_is_a_message():
    assert "alert command failed: " in AlertCommand("echo \0").tell([LEAK], 100.0)


def test_the_environment_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("OF_THE_USER", "kept")
    file = tmp_path / "said"
    command = AlertCommand(f'echo "$OF_THE_USER $PWD" > {file}')
    command.tell([LEAK], 100.0)
    wait(lambda: file.exists() and file.read_text())
    assert file.read_text().split() == ["kept", str(Path.cwd())]
    command.close()
