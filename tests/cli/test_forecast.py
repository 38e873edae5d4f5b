"""A training that leaks and one that does not, in real processes, told apart by ``--once``."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

SCRIPT = Path(__file__).parents[1] / "bench" / "forecast_training.py"
VRAMTOP = [sys.executable, "-m", "vramtop"]


@pytest.fixture(scope="module", autouse=True)
def trainings(tmp_path_factory):
    """(environment, pids by kind, when) of two trainings under `vramtop run`.

    What they do takes its time: they begin with the first test, and the last one asks.
    """
    folder = tmp_path_factory.mktemp("forecast")
    environment = {
        **os.environ,
        "VRAMTOP_RUNTIME_DIR": str(folder / "run"),
        "XDG_CONFIG_HOME": str(folder),
    }
    command = [*VRAMTOP, "run", "--", sys.executable, str(SCRIPT)]
    command += ["--seconds=300", "--batch=256", "--sleep-s=0.05"]
    began = time.monotonic()
    started = {
        leak: subprocess.Popen(
            [*command, f"--leak={leak}"], env=environment, stdout=subprocess.DEVNULL
        )
        for leak in ("retained", "none")
    }
    yield environment, {leak: process.pid for leak, process in started.items()}, began
    for process in started.values():
        process.kill()
        process.wait()


def test_a_full_device_makes_the_exit_code_4_and_is_printed(tmp_path):
    """RAM is always fuller than one percent."""
    environment = {**os.environ, "VRAMTOP_RUNTIME_DIR": str(tmp_path / "run")}
    environment["XDG_CONFIG_HOME"] = str(tmp_path)

    def run(*options):
        return subprocess.run(
            [*VRAMTOP, "--once", "--backend", "host", *options],
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    warned = run("--alert-at", "1%")
    assert warned.returncode == 4
    assert "▲ host RAM is " in warned.stdout
    assert run().returncode == 0
    (tmp_path / "vramtop").mkdir()
    (tmp_path / "vramtop" / "config.toml").write_text("alert_at_percent = 1")
    assert run().returncode == 4
    assert run("--alert-at", "100").returncode == 0  # the command line wins


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--alert-at", "0"], "'0' is not a number of 1 to 100"),
        (["--alert-at", "much"], "'much' is not a number of 1 to 100"),
        (["--on-alert", " "], "a command is needed"),
        (["--once", "--on-alert", "true"], "--on-alert needs the screen; --once exits with 4"),
    ],
)
def test_wrong_use_is_one_line(options, said):
    done = subprocess.run([*VRAMTOP, *options], capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.timeout(240)
def test_a_leaking_script_is_forecast_and_a_healthy_one_is_not(trainings):
    environment, pids, began = trainings
    leaking = psutil.Process(pids["retained"])
    deadline = time.monotonic() + 180
    time.sleep(max(0.0, began + 15 - time.monotonic()))  # so long it takes at least
    while time.monotonic() < deadline:
        before, asked = leaking.memory_info().rss, time.monotonic()
        time.sleep(3)
        done = subprocess.run(
            [*VRAMTOP, "--once", "--json", "--backend", "host"],
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        shown = json.loads(done.stdout)
        forecasts = {process["pid"]: process["forecast"] for process in shown["processes"]}
        assert forecasts.get(pids["none"]) is None
        assert done.returncode == (4 if shown["alerts"] else 0)
        if forecasts.get(pids["retained"]) and shown["alerts"]:
            break
    found = forecasts[pids["retained"]]
    assert found["kind"] == "leak"
    assert found["confidence"] in {"high", "medium"}
    (alert,) = shown["alerts"]
    assert (alert["kind"], alert["pid"]) == ("forecast", pids["retained"])
    assert alert["text"].startswith("OOM in ~")
    # What the kernel says of the process meanwhile: it grows at about the rate forecast.
    rate = (leaking.memory_info().rss - before) / (time.monotonic() - asked)
    assert 0.3 < found["bytes_per_s"] / rate < 3
