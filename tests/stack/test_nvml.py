"""Every trouble that NVML makes, from the driver's library up to JSON and to the screen.

The driver is the stand-in; everything else is real: pynvml, the collector, the app in a terminal.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.stack.screen import Screen
from tests.standin.standin import V2_LISTS, V3_LISTS

GIB = 1 << 30


def gpu(index=0, *, processes=(), **more):
    return {
        "name": "NVIDIA Test GPU",
        "uuid": f"GPU-{index}",
        "total_bytes": 80 * GIB,
        "reserved_bytes": GIB,
        "used_bytes": 40 * GIB,
        "processes": list(processes),
        **more,
    }


def entry(used_bytes=8 * GIB, pid=None, kind="C", **more):
    return {"pid": pid or os.getpid(), "used_bytes": used_bytes, "list": kind, **more}


class Stack:
    def __init__(self, standin, tmp_path):
        self.standin = standin
        self.env = {
            **os.environ,
            **standin.env,
            "VRAMTOP_RUNTIME_DIR": str(tmp_path / "run"),
            "XDG_CONFIG_HOME": str(tmp_path),
            "XDG_STATE_HOME": str(tmp_path),
        }

    def json(self, *more, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "vramtop", "--once", "--json", *more],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr

    def screen(self, *arguments, **more):
        return Screen("--interval", "0.2", *arguments, env=self.env, **more)


@pytest.fixture
def stack(nvml_standin, tmp_path):
    return lambda scenario, **more: Stack(nvml_standin(scenario, **more), tmp_path)


@pytest.fixture(scope="module")
def sleepers():
    children = [subprocess.Popen(["sleep", "600"]) for _ in range(64)]
    yield [child.pid for child in children]
    for child in children:
        child.kill()
        child.wait()


def messages(shown):
    return " ".join(f"{p['source']}: {p['message']}" for p in shown["problems"])


def test_eight_gpus_with_64_processes_each(stack, sleepers):
    here = stack(
        {"gpus": [gpu(i, processes=[entry(GIB // 2, p) for p in sleepers]) for i in range(8)]}
    )
    shown = here.json()
    assert len(shown["devices"]) == 8
    assert len(shown["processes"]) == 64
    assert all(len(p["devices"]) == 8 for p in shown["processes"])
    assert {d["memory"]["unattributed_bytes"] for d in shown["devices"]} == {8 * GIB}
    assert all("sleep" in p["command"] for p in shown["processes"])
    with here.screen() as screen:
        screen.wait_for("64 processes", "sleep 600")
        screen.wait_until(lambda text: text.count("Test GPU") == 8, "eight GPUs")


def test_mig_with_an_empty_slot(stack):
    mig = {
        0: {"name": "MIG 1g.10gb", "uuid": "MIG-a", "gi": 1, "ci": 0, "used_bytes": 3 * GIB},
        2: {"name": "MIG 2g.20gb", "uuid": "MIG-c", "gi": 2, "ci": 0, "used_bytes": 5 * GIB},
    }
    here = stack({"gpus": [gpu(mig=mig, processes=[entry(2 * GIB, gi=2, ci=0)])]})
    shown = here.json()
    assert [m["name"] for m in shown["devices"][0]["mig"]] == ["MIG 1g.10gb", "MIG 2g.20gb"]
    assert shown["processes"][0]["devices"] == [
        {"uuid": "MIG-c", "used_bytes": 2 * GIB, "kind": "C"}
    ]
    with here.screen() as screen:
        screen.wait_for("1g.10gb", "2g.20gb", "Test GPU")


def test_a_process_without_a_figure_is_not_zero(stack):
    here = stack({"gpus": [gpu(processes=[entry(None)])]})
    shown = here.json()
    assert shown["processes"][0]["devices"][0]["used_bytes"] is None
    assert shown["devices"][0]["memory"]["unattributed_bytes"] is None
    with here.screen() as screen:
        pid = str(os.getpid())
        line = next(x for x in screen.wait_for(pid).splitlines() if f" {pid} " in x)
        assert "N/A" in line


def test_a_gpu_lost_and_back(stack):
    well = {"gpus": [gpu(0), gpu(1, used_bytes=10 * GIB)]}
    lost = {"gpus": [gpu(0), gpu(1, used_bytes=10 * GIB, errors={"*": "GPU_IS_LOST"})]}
    here = stack(well)
    with here.screen() as screen:
        screen.wait_for("40.0", "10.0", without=["lost"])
        here.standin.write(lost)
        text = screen.wait_for("lost")
        assert "10.0" in text, "the last values stay"
        here.standin.write({"gpus": [gpu(0, used_bytes=50 * GIB), lost["gpus"][1]]})
        screen.wait_for("50.0", "lost")  # the other one goes on
        here.standin.write({"gpus": [gpu(0), gpu(1, used_bytes=20 * GIB)]})
        screen.wait_for("20.0", without=["lost"])
    here.standin.write(lost)
    assert "GPU is lost" in messages(here.json())


def test_a_driver_reload(stack):
    here = stack({"gpus": [gpu()]})
    with here.screen() as screen:
        screen.wait_for("40.0")
        here.standin.write({"errors": {"*": "DRIVER_NOT_LOADED"}, "epoch": 1, "gpus": []})
        screen.wait_for("driver")
        here.standin.write({"epoch": 2, "gpus": [gpu(used_bytes=30 * GIB)]})
        screen.wait_for("30.0", without=["lost"])


def test_a_gpu_added(stack):
    here = stack({"gpus": [gpu(0)]})
    with here.screen() as screen:
        screen.wait_for("Test GPU")
        here.standin.write({"gpus": [gpu(0), gpu(1, name="NVIDIA Added GPU")]})
        screen.wait_for("Test GPU", "Added GPU")


def test_no_permission_on_process_lists(stack):
    denied = dict.fromkeys((*V3_LISTS, *V2_LISTS), "NO_PERMISSION")
    here = stack({"errors": denied, "gpus": [gpu(processes=[entry()])]})
    shown = here.json()
    assert "ermission" in messages(shown)
    assert shown["devices"][0]["memory"]["used_bytes"] == 40 * GIB
    with here.screen() as screen:
        screen.wait_for("40.0", "ermission")


def test_what_is_not_supported_is_not_shown_as_zero(stack):
    call = "nvmlDeviceGetUtilizationRates"
    here = stack({"errors": {call: "NOT_SUPPORTED"}, "gpus": [gpu(temperature_c=41)]})
    assert here.json()["devices"][0]["utilization_percent"] is None
    with here.screen() as screen:
        line = next(x for x in screen.wait_for("Test GPU").splitlines() if "Test GPU" in x)
        assert "41°C" in line
        assert "busy" not in line


def test_a_dead_pid_keeps_its_row_and_says_so(stack):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    here = stack({"gpus": [gpu(processes=[entry(pid=child.pid)])]})
    (process,) = here.json()["processes"]
    assert process["state"] in {"gone", "invisible"}  # invisible where pids are namespaced
    assert process["devices"][0]["used_bytes"] == 8 * GIB
    with here.screen() as screen:
        text = screen.wait_for(str(child.pid))
        assert process["state"] in text


def test_one_pid_in_both_lists_is_one_process(stack):
    both = [entry(8 * GIB, kind="C"), entry(6 * GIB, kind="G")]
    here = stack({"gpus": [gpu(processes=both)]})
    (process,) = here.json()["processes"]
    assert process["devices"] == [{"uuid": "GPU-0", "used_bytes": 8 * GIB, "kind": "C+G"}]
    with here.screen() as screen:
        screen.wait_for("C+G", "8.00 GiB")


def test_the_layout_of_driver_535_43(stack):
    processes = [entry(8 * GIB), entry(6 * GIB, pid=1)]
    here = stack({"driver": "535.43.02", "process_bytes": 32, "gpus": [gpu(processes=processes)]})
    figures = {p["pid"]: p["devices"][0]["used_bytes"] for p in here.json()["processes"]}
    assert figures == {os.getpid(): 8 * GIB, 1: 6 * GIB}
    with here.screen() as screen:
        screen.wait_for("8.00 GiB", "6.00 GiB")


def test_an_old_driver_without_v3(stack):
    here = stack({"driver": "470.1", "gpus": [gpu(processes=[entry()])]}, hidden=V3_LISTS)
    assert here.json()["processes"][0]["devices"][0]["used_bytes"] == 8 * GIB
    with here.screen() as screen:
        screen.wait_for("8.00 GiB")


def test_unified_memory_is_said_to_be_host_ram(stack):
    here = stack({"gpus": [gpu(total_bytes=0, used_bytes=0, reserved_bytes=0)]})
    shown = here.json()
    assert shown["devices"][0]["unified_memory"] is True
    assert shown["devices"][0]["memory"]["total_bytes"] == shown["host"]["ram_total_bytes"]
    with here.screen() as screen:
        screen.wait_for("unified memory")


INIT_ERRORS = [
    ("DRIVER_NOT_LOADED", "not loaded"),
    ("LIB_RM_VERSION_MISMATCH", "version"),
    ("NO_PERMISSION", "permission"),
]


@pytest.mark.parametrize(("error", "said"), INIT_ERRORS)
def test_an_init_error_is_named_and_the_host_shown(stack, error, said):
    here = stack({"errors": {"nvmlInit": error}, "gpus": []})
    shown = here.json()
    assert shown["devices"][0]["backend"] == "host"
    assert said in messages(shown)
    assert said in here.json("--backend", "nvml", code=3)
    with here.screen() as screen:
        screen.wait_for("host RAM", said)


def test_no_device_is_named_and_the_host_shown(stack):
    here = stack({"gpus": []})
    assert here.json()["devices"][0]["backend"] == "host"
    assert len(here.json("--backend", "nvml", code=3).splitlines()) == 1
    with here.screen() as screen:
        screen.wait_for("host RAM", "no ")
