"""The whole stack on the stand-in driver, from the C library to ``--once --json``."""

import ctypes.util
import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from tests.standin.standin import V3_LISTS

GIB = 1 << 30
ONE_GPU = {
    "uuid": "GPU-a",
    "used_bytes": 5 * GIB,
    "reserved_bytes": GIB // 2,
    "processes": [{"pid": 7, "used_bytes": 4 * GIB}],
}


@pytest.fixture
def command(nvml_standin, monkeypatch, tmp_path):
    """Run vramtop on a scenario."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(tmp_path / "run"))

    def command(scenario, *arguments, hidden=()):
        return subprocess.run(
            [sys.executable, "-m", "vramtop", *arguments],
            env={**os.environ, **nvml_standin(scenario, hidden).env},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )

    return command


@pytest.fixture
def shown(command):
    """The JSON object of a scenario."""

    def shown(scenario, hidden=()):
        done = command(scenario, "--once", "--json", "--backend", "nvml", hidden=hidden)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    return shown


def uses(shown):
    return {
        process["pid"]: [
            (use["uuid"], use["used_bytes"], use["kind"]) for use in process["devices"]
        ]
        for process in shown["processes"]
    }


def test_eight_gpus_with_64_processes_each(shown):
    gpus = [
        {
            "uuid": f"GPU-{g}",
            "used_bytes": 70 * GIB,
            "processes": [{"pid": 2_000_000 + 64 * g + i, "used_bytes": GIB} for i in range(64)],
        }
        for g in range(8)
    ]
    result = shown({"gpus": gpus})
    assert [device["uuid"] for device in result["devices"]] == [f"GPU-{g}" for g in range(8)]
    assert {device["memory"]["unattributed_bytes"] for device in result["devices"]} == {6 * GIB}
    assert len(result["processes"]) == 8 * 64
    assert result["problems"] == []


def test_running_dead_and_invisible_processes(shown):
    dead = subprocess.Popen(["true"])
    dead.wait()
    processes = [
        {"pid": os.getpid(), "used_bytes": GIB},
        {"pid": dead.pid, "used_bytes": GIB},
    ]
    result = shown({"gpus": [{**ONE_GPU, "processes": processes}]})
    rows = {process["pid"]: process for process in result["processes"]}
    own = psutil.Process()
    assert rows[own.pid]["state"] == "running"
    assert rows[own.pid]["user"] == own.username()
    assert rows[own.pid]["command"].split()[0] == own.cmdline()[0]
    assert rows[dead.pid]["state"] == "gone"
    assert rows[dead.pid]["devices"][0]["used_bytes"] == GIB


def test_mig_with_an_empty_slot(shown):
    mig = {
        slot: {"uuid": f"MIG-{slot}", "gi": slot, "ci": 0, "used_bytes": 2 * GIB} for slot in (0, 2)
    }
    processes = [{"pid": 7, "used_bytes": GIB, "gi": 2, "ci": 0}]
    result = shown({"gpus": [{**ONE_GPU, "mig": mig, "processes": processes}]})
    rows = result["devices"][0]["mig"]
    assert [row["uuid"] for row in rows] == ["MIG-0", "MIG-2"]
    assert uses(result) == {7: [("MIG-2", GIB, "C")]}


def test_a_process_without_a_figure_is_null(shown):
    result = shown({"gpus": [{**ONE_GPU, "processes": [{"pid": 7, "used_bytes": None}]}]})
    assert uses(result) == {7: [("GPU-a", None, "C")]}
    assert result["devices"][0]["memory"]["unattributed_bytes"] is None
    assert "N/A" in result["problems"][0]["message"]


def test_one_pid_in_two_lists(shown):
    processes = [
        {"pid": 7, "used_bytes": 2 * GIB},
        {"pid": 7, "used_bytes": 3 * GIB, "list": "G"},
    ]
    result = shown({"gpus": [{**ONE_GPU, "processes": processes}]})
    assert uses(result) == {7: [("GPU-a", 3 * GIB, "C+G")]}
    assert result["devices"][0]["memory"]["unattributed_bytes"] == 2 * GIB


@pytest.mark.parametrize(
    ("changes", "hidden"),
    [({"process_bytes": 32, "driver": "535.43.02"}, ()), ({"driver": "470.1"}, V3_LISTS)],
    ids=["535.43 layout", "without _v3"],
)
def test_drivers_with_other_process_lists(shown, changes, hidden):
    processes = [{"pid": 7 + i, "used_bytes": i * GIB} for i in range(3)]
    result = shown({**changes, "gpus": [{**ONE_GPU, "processes": processes}]}, hidden)
    assert uses(result) == {7 + i: [("GPU-a", i * GIB, "C")] for i in range(3)}
    assert result["host"]["driver_version"] == changes["driver"]
    assert result["problems"] == []


def test_no_permission_on_process_lists(shown):
    result = shown({"errors": dict.fromkeys(V3_LISTS, "NO_PERMISSION"), "gpus": [ONE_GPU]})
    assert result["devices"][0]["memory"]["used_bytes"] == 5 * GIB
    assert result["processes"] == []
    assert "no permission" in result["problems"][0]["message"]


@pytest.mark.parametrize(
    ("call", "key"),
    [
        ("nvmlDeviceGetUtilizationRates", "utilization_percent"),
        ("nvmlDeviceGetPowerUsage", "power_w"),
    ],
)
def test_a_call_that_is_not_supported_is_null_and_said(shown, call, key):
    result = shown({"errors": {call: "NOT_SUPPORTED"}, "gpus": [ONE_GPU]})
    assert result["devices"][0][key] is None
    assert result["devices"][0]["temperature_c"] == 40
    assert "does not report" in result["problems"][0]["message"]


def test_unified_memory(shown):
    result = shown({"gpus": [{**ONE_GPU, "total_bytes": 0}]})
    assert result["devices"][0]["unified_memory"] is True
    assert result["devices"][0]["memory"]["total_bytes"] == psutil.virtual_memory().total


INIT_ERRORS = [
    ({"errors": {"nvmlInit": "DRIVER_NOT_LOADED"}, "gpus": []}, "driver not loaded"),
    ({"errors": {"nvmlInit": "LIB_RM_VERSION_MISMATCH"}, "gpus": []}, "version mismatch"),
    ({"errors": {"nvmlInit": "NO_PERMISSION"}, "gpus": []}, "no permission"),
    ({"gpus": []}, "no device"),
]


@pytest.mark.parametrize(("scenario", "cause"), INIT_ERRORS)
def test_init_errors_end_a_run_that_asked_for_nvml(command, scenario, cause):
    done = command(scenario, "--once", "--json", "--backend", "nvml")
    assert done.returncode == 3
    assert done.stderr.startswith(f"vramtop: {cause}: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("scenario", "cause"), INIT_ERRORS)
def test_init_errors_otherwise_are_said_and_the_host_is_shown(command, scenario, cause):
    done = command(scenario, "--once", "--json")
    assert done.returncode == 0
    result = json.loads(done.stdout)
    assert [device["backend"] for device in result["devices"]] == ["host"]
    assert result["problems"][0]["message"].startswith(cause)


@pytest.mark.skipif(bool(ctypes.util.find_library("nvidia-ml")), reason="this machine has one")
def test_no_library(command):
    done = subprocess.run(
        [sys.executable, "-m", "vramtop", "--once", "--json", "--backend", "nvml"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3
    assert done.stderr.startswith("vramtop: no library: ")


# ---- while it runs ------------------------------------------------------------------------------


@pytest.fixture
def live(nvml_here, monkeypatch, tmp_path):
    """(stand-in, a function that waits for JSON of which something is so)."""
    from vramtop.report.json import to_object
    from vramtop.sources.collector import Collector

    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(tmp_path / "run"))
    collectors = []

    def live(scenario):
        standin = nvml_here(scenario)
        collector = Collector("nvml", period_s=0.05)
        collectors.append(collector)
        snapshots = []
        collector.start(snapshots.append)

        def until(condition):
            end = time.monotonic() + 10
            while time.monotonic() < end:
                if snapshots and condition(result := to_object(snapshots[-1])):
                    return result
                time.sleep(0.02)
            pytest.fail(f"never so: {snapshots[-1:]}")

        return standin, until

    yield live
    for collector in collectors:
        collector.stop()


def used(result):
    return [device["memory"]["used_bytes"] for device in result["devices"]]


def test_a_gpu_lost_and_back(live):
    other = {"uuid": "GPU-b", "used_bytes": GIB}
    standin, until = live({"gpus": [ONE_GPU, other]})
    until(lambda result: used(result) == [5 * GIB, GIB])
    lost = {**ONE_GPU, "errors": {"*": "GPU_IS_LOST"}}
    standin.write({"gpus": [lost, {**other, "used_bytes": 2 * GIB}]})
    result = until(lambda result: used(result) == [5 * GIB, 2 * GIB])
    assert result["devices"][0]["stale_s"] > 0
    assert result["devices"][1]["stale_s"] is None
    assert result["problems"][0]["message"].startswith("GPU 0: GPU is lost")
    standin.write({"gpus": [{**ONE_GPU, "used_bytes": 6 * GIB, "generation": 1}, other]})
    until(lambda result: used(result) == [6 * GIB, GIB] and not result["problems"])


def test_a_driver_reload(live):
    standin, until = live({"gpus": [ONE_GPU]})
    until(lambda result: used(result) == [5 * GIB])
    standin.write({"gpus": [ONE_GPU], "errors": {"*": "DRIVER_NOT_LOADED"}})
    result = until(lambda result: result["problems"])
    assert result["devices"][0]["stale_s"] > 0
    assert "driver not loaded" in result["problems"][0]["message"]
    standin.write({"driver": "580.1", "epoch": 1, "gpus": [ONE_GPU]})
    result = until(lambda result: not result["problems"])
    assert result["host"]["driver_version"] == "580.1"


def test_a_gpu_added(live):
    standin, until = live({"gpus": [ONE_GPU]})
    until(lambda result: used(result) == [5 * GIB])
    standin.write({"gpus": [ONE_GPU, {"uuid": "GPU-b", "used_bytes": GIB}]})
    result = until(lambda result: used(result) == [5 * GIB, GIB])
    assert result["problems"] == []
