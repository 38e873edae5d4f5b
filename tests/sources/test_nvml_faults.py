"""What the NVML backend shows when calls, GPUs or the driver fail, and when they come back."""

import subprocess
import sys
from threading import Timer
from time import monotonic, sleep

import pytest

from vramtop.core.model import DeviceUse
from vramtop.errors import BackendUnavailable
from vramtop.sources.nvml import NvmlBackend

GIB = 1 << 30

HEALTHY = {
    "gpus": [
        {
            "uuid": f"GPU-{i}",
            "used_bytes": 4 * GIB,
            "reserved_bytes": 1 << 20,
            "utilization_percent": 50,
            "processes": [{"pid": 10 + i, "used_bytes": 3 * GIB}],
        }
        for i in range(2)
    ]
    + [
        {
            "uuid": "GPU-2",
            "used_bytes": 4 * GIB,
            "mig": {1: {"uuid": "MIG-1", "gi": 3, "ci": 0, "used_bytes": 2 * GIB}},
            "processes": [{"pid": 12, "used_bytes": GIB, "gi": 3, "ci": 0}],
        }
    ]
}
CALLS = (
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetComputeInstanceId",
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetComputeRunningProcesses_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetGpuInstanceId",
    "nvmlDeviceGetGraphicsRunningProcesses",
    "nvmlDeviceGetGraphicsRunningProcesses_v2",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetMPSComputeRunningProcesses",
    "nvmlDeviceGetMPSComputeRunningProcesses_v2",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetMigDeviceHandleByIndex",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetName",
    "nvmlDeviceGetPowerManagementLimit",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetUtilizationRates",
    "nvmlSystemGetCudaDriverVersion_v2",
    "nvmlSystemGetDriverVersion",
)
MAY_FAIL_UNNOTICED = {
    # Asked only where a newer version of the call fails, or answered by an older one.
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetComputeRunningProcesses_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses",
    "nvmlDeviceGetGraphicsRunningProcesses_v2",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses",
    "nvmlDeviceGetMPSComputeRunningProcesses_v2",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    # Not supported: no MIG, which is no news. The handles can be counted instead.
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetCount_v2",
}


def lists(version):
    return [
        f"nvmlDeviceGet{kind}RunningProcesses{version}"
        for kind in ("Compute", "Graphics", "MPSCompute")
    ]


def with_errors(errors, gpu=None, scenario=HEALTHY):
    """The scenario with these errors, on all GPUs or on one."""
    if gpu is None:
        return {**scenario, "errors": errors}
    gpus = list(scenario["gpus"])
    gpus[gpu] = {**gpus[gpu], "errors": errors}
    return {**scenario, "gpus": gpus}


@pytest.fixture
def opened(nvml_here):
    """(backend, stand-in) of a scenario."""
    backends = []

    def opened(scenario, hidden=()):
        standin = nvml_here(scenario, hidden)
        backends.append(NvmlBackend())
        return backends[-1], standin

    yield opened
    for backend in backends:
        backend.close()


def messages(reading):
    return [problem.message for problem in reading.problems]


def wait_for(backend, condition, limit_s=8.0):
    """Read until it is so, as the collector would tick."""
    end = monotonic() + limit_s
    while monotonic() < end:
        reading = backend.read()
        if condition(reading):
            return reading
        sleep(0.1)
    pytest.fail(f"never so: {reading}")


def test_these_are_the_calls_that_are_made(opened):
    import pynvml

    backend, _ = opened(HEALTHY)
    backend.read()
    made = set(pynvml._nvmlGetFunctionPointer_cache) - {"nvmlInitWithFlags", "nvmlShutdown"}
    where_another_fails = {"nvmlDeviceGetMemoryInfo", "nvmlDeviceGetTemperatureV"}
    assert made | where_another_fails == set(CALLS)
    assert not any("Pcie" in call for call in made)  # 20 ms each


@pytest.mark.parametrize("error", ["NOT_SUPPORTED", "FUNCTION_NOT_FOUND"])
@pytest.mark.parametrize("call", CALLS)
def test_any_single_call_not_supported(opened, call, error):
    backend, _ = opened(with_errors({call: error}))
    backend.read()
    reading = backend.read()
    if call in {"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID"}:
        assert messages(reading)
        return
    assert [device.uuid for device in reading.devices] == ["GPU-0", "GPU-1", "GPU-2"]
    assert all(device.memory.used_bytes >= 4 * GIB for device in reading.devices)
    assert {10, 11, 12} <= set(reading.uses)
    if call not in MAY_FAIL_UNNOTICED:
        assert messages(reading), "nobody says what is missing"


@pytest.mark.parametrize(
    "error", ["TIMEOUT", "UNKNOWN", "INVALID_ARGUMENT", "NO_PERMISSION", "GPU_IS_LOST"]
)
@pytest.mark.parametrize("call", CALLS)
def test_any_single_call_fails_on_one_gpu_and_the_others_do_not_mind(opened, call, error):
    backend, standin = opened(HEALTHY)
    good = backend.read()
    standin.write(with_errors({call: error}, gpu=0))
    reading = backend.read()
    assert reading.devices[1:] == good.devices[1:]
    assert reading.uses[11] == good.uses[11]
    assert reading.uses[12] == good.uses[12]
    standin.write(HEALTHY)
    back = backend.read()
    assert back.devices == good.devices
    assert messages(back) == []


def test_what_is_not_supported_is_asked_once(opened):
    backend, standin = opened(with_errors({"nvmlDeviceGetPowerUsage": "NOT_SUPPORTED"}))
    assert backend.read().devices[0].power_w is None
    standin.write(HEALTHY)  # would answer now, if it were asked
    reading = backend.read()
    assert [device.power_w for device in reading.devices] == [None] * 3
    assert messages(reading) == ["GPU 0-2: the driver does not report power"]


def test_a_count_that_is_not_supported_is_asked_once(opened, monkeypatch):
    import pynvml

    backend, _ = opened(with_errors({"nvmlDeviceGetCount_v2": "NOT_SUPPORTED"}))
    asked = []
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: asked.append(1))
    assert len(backend.read().devices) == 3
    assert not asked


def test_names_that_fail_for_now_are_asked_again_and_then_kept(opened):
    scenario = mig_gpu(name="NVIDIA H100")
    scenario["gpus"][0]["mig"][1]["name"] = "MIG 2g.20gb"
    nameless = with_errors({"nvmlDeviceGetName": "UNKNOWN"}, scenario=scenario)
    backend, standin = opened(nameless)
    assert backend.read().devices[0].name == "NVIDIA GPU"
    standin.write(scenario)
    device = backend.read().devices[0]
    assert (device.name, device.mig[0].name) == ("NVIDIA H100", "MIG 2g.20gb")
    standin.write(with_errors({"*": "GPU_IS_LOST"}, scenario=scenario, gpu=0))
    assert backend.read().devices[0].stale_s is not None
    standin.write(nameless)
    device = backend.read().devices[0]
    assert (device.name, device.mig[0].name) == ("NVIDIA H100", "MIG 2g.20gb")
    assert device.stale_s is None


def test_a_process_that_grows_between_the_two_calls(opened):
    def scenario(used_bytes, **more):
        processes = [{"pid": 7, "used_bytes": used_bytes - 1}]
        return {"gpus": [{"used_bytes": used_bytes, "processes": processes}], **more}

    backend, standin = opened(scenario(GIB))
    backend.read()
    # The stand-in looks at the scenario when a call begins: this one ends with the old figure.
    standin.write(scenario(GIB, delays_us={"nvmlDeviceGetMemoryInfo_v2": 200_000}))
    growth = Timer(0.1, standin.write, [scenario(9 * GIB)])
    growth.start()
    reading = backend.read()
    growth.join()
    assert reading.uses[7][0].used_bytes == 9 * GIB - 1
    assert reading.devices[0].memory.used_bytes == 9 * GIB
    assert reading.devices[0].memory.unattributed_bytes == 1
    assert reading.problems == ()


@pytest.mark.parametrize("both", [False, True])
def test_a_driver_without_the_older_temperature_call(opened, both):
    import pynvml

    if not hasattr(pynvml, "nvmlDeviceGetTemperatureV"):
        pytest.skip("this pynvml does not know the newer one")
    errors = {"nvmlDeviceGetTemperature": "FUNCTION_NOT_FOUND"}
    if both:
        errors["nvmlDeviceGetTemperatureV"] = "NOT_SUPPORTED"
    reading = opened(with_errors(errors))[0].read()
    assert reading.devices[0].temperature_c == (None if both else 40)
    assert messages(reading) == ["GPU 0-2: the driver does not report temperature"] * both


def test_a_single_figure_that_fails_for_now_is_unknown_not_old(opened):
    backend, standin = opened(HEALTHY)
    backend.read()
    standin.write(with_errors({"nvmlDeviceGetTemperature": "UNKNOWN"}, gpu=1))
    reading = backend.read()
    assert [device.temperature_c for device in reading.devices] == [40, None, 40]
    assert reading.devices[1].stale_s is None
    assert messages(reading) == ["GPU 1: temperature: Unknown Error"]


@pytest.mark.parametrize("error", ["GPU_IS_LOST", "UNKNOWN", "TIMEOUT", "UNINITIALIZED"])
def test_a_gpu_lost_keeps_its_last_values_with_their_age_and_comes_back(opened, error):
    backend, standin = opened(HEALTHY)
    good = backend.read()
    standin.write(with_errors({"*": error}, gpu=1))
    backend.read()
    sleep(0.05)
    reading = backend.read()
    lost = reading.devices[1]
    assert 0.04 < lost.stale_s < 5
    assert lost.memory == good.devices[1].memory
    assert reading.uses[11] == good.uses[11]
    assert reading.devices[0] == good.devices[0]
    assert reading.devices[2] == good.devices[2]
    (message,) = messages(reading)
    assert message.startswith("GPU 1: ")
    changed = {"gpus": [{**gpu, "used_bytes": 5 * GIB} for gpu in HEALTHY["gpus"]]}
    standin.write(changed)
    back = backend.read()
    assert back.problems == ()
    assert [device.memory.used_bytes for device in back.devices] == [5 * GIB] * 3
    assert back.devices[1].stale_s is None


def test_a_gpu_that_was_reset_is_read_through_a_new_handle(opened):
    backend, standin = opened(HEALTHY)
    good = backend.read()
    standin.write({"gpus": [{**gpu, "generation": 1} for gpu in HEALTHY["gpus"]]})
    backend.read()  # the old handles are noticed here
    assert backend.read().devices == good.devices


def test_a_gpu_that_never_answered_is_a_row_of_unknowns(opened):
    backend, _ = opened(with_errors({"*": "GPU_IS_LOST"}, gpu=0))
    reading = backend.read()
    assert reading.devices[0].memory.used_bytes is None
    assert reading.devices[0].stale_s is not None
    assert reading.devices[1].memory.used_bytes == 4 * GIB
    assert "GPU is lost" in messages(reading)[0]


def test_no_permission_on_process_lists(opened):
    backend, _ = opened(with_errors(dict.fromkeys(lists("_v3"), "NO_PERMISSION")))
    reading = backend.read()
    assert reading.uses == {}
    assert [device.memory.unattributed_bytes for device in reading.devices] == [None] * 3
    assert reading.devices[0].memory.used_bytes == 4 * GIB
    assert all("no permission" in message for message in messages(reading))
    assert messages(reading)[0].startswith("GPU 0-1: no permission to read MPS processes, compute")


def test_process_lists_that_hiccup_do_not_make_the_processes_vanish(opened):
    backend, standin = opened(HEALTHY)
    good = backend.read()
    standin.write(with_errors({"nvmlDeviceGetComputeRunningProcesses_v3": "UNKNOWN"}, gpu=0))
    reading = backend.read()
    assert reading.uses == good.uses
    assert reading.devices[0].memory.unattributed_bytes is None
    assert messages(reading) == ["GPU 0: compute processes: Unknown Error"]


def mig_gpu(**changes):
    gpu = {
        "uuid": "GPU-m",
        "used_bytes": 8 * GIB,
        "mig": {
            slot: {"uuid": f"MIG-{slot}", "gi": slot + 1, "ci": 0, "used_bytes": 4 * GIB}
            for slot in (1, 3)
        },
        "processes": [
            {"pid": 20 + slot, "used_bytes": 3 * GIB, "gi": slot + 1, "ci": 0} for slot in (1, 3)
        ],
    }
    return {"gpus": [{**gpu, **changes}]}


MIG_USES = {21: (DeviceUse("MIG-1", 3 * GIB, "C"),), 23: (DeviceUse("MIG-3", 3 * GIB, "C"),)}


def test_a_partitioned_gpu_lists_its_processes_to_root_only_and_that_is_no_news(opened):
    backend, _ = opened(mig_gpu(own_errors=dict.fromkeys(lists("_v3"), "NO_PERMISSION")))
    reading = backend.read()
    assert reading.uses == MIG_USES
    assert reading.devices[0].memory.unattributed_bytes == 2 * GIB
    assert reading.problems == ()


def test_where_instances_list_nothing_the_gpus_list_names_the_instance_by_its_ids(opened):
    scenario = mig_gpu()
    silent = [call for version in ("_v3", "_v2", "") for call in lists(version)]
    for instance in scenario["gpus"][0]["mig"].values():
        instance["errors"] = dict.fromkeys(silent, "NOT_SUPPORTED")
    backend, _ = opened(scenario)
    reading = backend.read()
    assert reading.uses == MIG_USES
    assert reading.devices[0].memory.unattributed_bytes == 2 * GIB


def test_an_instance_that_is_destroyed_between_two_calls_costs_its_row_only(opened):
    scenario = mig_gpu()
    scenario["gpus"][0]["mig"][1]["errors"] = {"*": "INVALID_ARGUMENT"}
    backend, _ = opened(scenario)
    reading = backend.read()
    assert reading.devices[0].stale_s is None
    assert [row.uuid for row in reading.devices[0].mig] == ["MIG-3"]
    assert reading.uses == {23: MIG_USES[23]}
    assert messages(reading) == ["GPU 0: MIG instance 1: memory of MIG instances: Invalid Argument"]


def test_mig_instances_come_and_go_while_it_runs(opened):
    backend, standin = opened(mig_gpu())
    backend.read()
    standin.write(mig_gpu(mig={2: {"uuid": "MIG-2", "gi": 5, "ci": 1}}, processes=[]))
    assert [row.uuid for row in backend.read().devices[0].mig] == ["MIG-2"]


def test_driver_reload(opened):
    backend, standin = opened(HEALTHY)
    good = backend.read()
    standin.write({**HEALTHY, "errors": {"*": "DRIVER_NOT_LOADED"}})
    for _ in range(3):
        reading = backend.read()
        assert [device.uuid for device in reading.devices] == ["GPU-0", "GPU-1", "GPU-2"]
        assert all(device.stale_s is not None for device in reading.devices)
        (message,) = messages(reading)
        assert "the driver is away (driver not loaded" in message
    standin.write({**HEALTHY, "driver": "580.1", "epoch": 1})
    reading = wait_for(backend, lambda r: not r.problems)
    assert reading.driver_version == "580.1"
    assert reading.devices == good.devices


def test_reloads_between_two_ticks_are_not_even_seen(opened):
    backend, standin = opened(HEALTHY)
    good = backend.read()
    for epoch in (1, 2, 3):
        standin.write({**HEALTHY, "epoch": epoch})
        reading = backend.read()
        assert (reading.devices, reading.uses, reading.problems) == (good.devices, good.uses, ())


def test_a_reload_that_only_the_devices_notice(opened):
    scenario = with_errors({"nvmlDeviceGetCount_v2": "NOT_SUPPORTED"})
    backend, standin = opened(scenario)
    good = backend.read()
    standin.write({**scenario, "epoch": 1})
    assert backend.read() == good


def test_another_gpu_at_the_same_index_does_not_get_the_old_ones_values(opened):
    backend, standin = opened({"gpus": HEALTHY["gpus"][:1]})
    backend.read()
    new = {"uuid": "GPU-new", "errors": {"nvmlDeviceGetMemoryInfo_v2": "TIMEOUT"}}
    standin.write({"epoch": 1, "gpus": [new]})
    reading = backend.read()
    assert (reading.devices[0].uuid, reading.devices[0].memory.used_bytes) == ("GPU-new", None)
    assert reading.uses == {}


def test_an_upgraded_driver_under_the_running_app(opened):
    backend, standin = opened(HEALTHY)
    backend.read()
    standin.write({**HEALTHY, "errors": {"*": "LIB_RM_VERSION_MISMATCH"}})
    assert "version mismatch" in messages(backend.read())[0]


@pytest.mark.parametrize("error", ["GPU_IS_LOST", "UNKNOWN"])
def test_reinitialising_is_not_tried_more_often_than_once_a_second(opened, error, monkeypatch):
    import pynvml

    backend, standin = opened(HEALTHY)
    backend.read()
    standin.write({**HEALTHY, "errors": {"*": "DRIVER_NOT_LOADED"}})
    tries = []
    monkeypatch.setattr(pynvml, "nvmlInit", lambda init=pynvml.nvmlInit: (tries.append(1), init()))
    for _ in range(20):
        backend.read()
    assert len(tries) == 1


@pytest.mark.parametrize("frozen", [False, True], ids=["NVML counts", "the kernel lists"])
def test_a_gpu_added_and_removed(opened, frozen, monkeypatch):
    def plugged(count):
        monkeypatch.setattr("os.listdir", lambda path: [f"0000:0{i}:00.0" for i in range(count)])

    def scenario(count):
        plugged(count)
        return {"frozen_count": frozen, "gpus": HEALTHY["gpus"][:count]}

    backend, standin = opened(scenario(1))
    assert len(backend.read().devices) == 1
    standin.write(scenario(2))
    reading = backend.read()
    assert [device.uuid for device in reading.devices] == ["GPU-0", "GPU-1"]
    assert reading.problems == ()
    standin.write(scenario(1))
    reading = wait_for(backend, lambda r: len(r.devices) == 1)
    assert messages(reading) == [
        "GPU 1 (NVIDIA Stand-in 1, GPU-1) is gone: removed, or fallen off the bus"
    ]
    standin.write(scenario(2))
    assert wait_for(backend, lambda r: len(r.devices) == 2).problems == ()


def test_all_gpus_removed(opened):
    backend, standin = opened(HEALTHY)
    good = backend.read()
    standin.write({"gpus": []})
    reading = backend.read()
    assert reading.devices == ()
    assert len(reading.problems) == 3
    standin.write({"gpus": [], "errors": {"nvmlDeviceGetCount_v2": "UNKNOWN"}})
    assert backend.read().devices == ()
    standin.write(HEALTHY)
    assert wait_for(backend, lambda r: r.devices).devices == good.devices


@pytest.mark.parametrize("error", ["INVALID_ARGUMENT", "UNKNOWN"])
def test_one_secondary_call_that_never_works_does_not_make_the_gpu_stale(opened, error):
    backend, _ = opened(with_errors({"nvmlDeviceGetTemperature": error}))
    reading = backend.read()
    assert [device.stale_s for device in reading.devices] == [None] * 3
    assert [device.memory.used_bytes for device in reading.devices] == [4 * GIB] * 3


@pytest.mark.parametrize(
    ("error", "cause", "advice"),
    [
        ("DRIVER_NOT_LOADED", "driver not loaded", "modprobe"),
        ("LIB_RM_VERSION_MISMATCH", "version mismatch", "reboot"),
        ("NO_PERMISSION", "no permission", "/dev/nvidiactl"),
        ("LIBRARY_NOT_FOUND", "no library", "install"),
        ("UNKNOWN", "NVML does not start", "dmesg"),
    ],
)
def test_init_errors_are_one_line_with_the_cause_and_what_to_do(nvml_here, error, cause, advice):
    nvml_here({"errors": {"nvmlInit": error}, "gpus": [{}]})
    with pytest.raises(BackendUnavailable) as raised:
        NvmlBackend()
    text = str(raised.value)
    assert text.startswith(cause)
    assert advice in text
    assert "\n" not in text


def test_no_device(nvml_here):
    nvml_here({"gpus": []})
    with pytest.raises(BackendUnavailable, match=r"^no device: "):
        NvmlBackend()


def test_no_library():
    """In a process of its own, without the stand-in; a machine with a driver has one."""
    code = (
        "import pynvml\n"
        "def missing(name): raise OSError(name)\n"
        "pynvml.CDLL = missing\n"
        "from vramtop.sources.nvml import NvmlBackend\n"
        "NvmlBackend()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "BackendUnavailable: no library: " in done.stderr


def test_importing_the_backend_does_not_import_pynvml():
    code = "import sys, vramtop.sources.nvml; sys.exit('pynvml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
