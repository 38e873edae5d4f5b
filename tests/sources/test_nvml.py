"""The NVML backend through the real pynvml on the stand-in driver: what a tick tells."""

import os
import statistics
import time

import psutil
import pytest

from tests.standin.standin import V2_LISTS, V3_LISTS
from vramtop.core.model import DeviceUse
from vramtop.sources.nvml import NvmlBackend

MIB = 1 << 20
GIB = 1 << 30


@pytest.fixture
def read(nvml_here):
    """One reading of a scenario."""

    def read(scenario, hidden=()):
        nvml_here(scenario, hidden)
        backend = NvmlBackend()
        try:
            return backend.read()
        finally:
            backend.close()

    return read


def test_every_figure_of_a_device(read):
    reading = read(
        {
            "driver": "575.57.08",
            "cuda": 12090,
            "gpus": [
                {
                    "name": "NVIDIA H100 80GB HBM3",
                    "uuid": "GPU-a",
                    "total_bytes": 80 * GIB,
                    "reserved_bytes": 600 * MIB,
                    "used_bytes": 10 * GIB,
                    "utilization_percent": 87,
                    "temperature_c": 61,
                    "power_w": 412.5,
                    "power_limit_w": 700,
                    "sm_clock_mhz": 1755,
                    "memory_clock_mhz": 2619,
                    "processes": [{"pid": 11, "used_bytes": 9 * GIB}],
                }
            ],
        }
    )
    assert (reading.driver_version, reading.cuda_driver_version) == ("575.57.08", "12.9")
    assert reading.problems == ()
    (device,) = reading.devices
    assert (device.index, device.uuid, device.name) == (0, "GPU-a", "NVIDIA H100 80GB HBM3")
    assert device.backend == "nvml"
    assert device.memory.total_bytes == 80 * GIB
    assert device.memory.used_bytes == 10 * GIB
    assert device.memory.driver_reserved_bytes == 600 * MIB
    assert device.memory.free_bytes == 70 * GIB - 600 * MIB
    assert device.memory.unattributed_bytes == GIB
    assert device.utilization_percent == 87.0
    assert device.temperature_c == 61
    assert (device.power_w, device.power_limit_w) == (412.5, 700.0)
    assert (device.sm_clock_mhz, device.memory_clock_mhz) == (1755, 2619)
    assert device.stale_s is None
    assert not device.unified_memory
    assert reading.uses == {11: (DeviceUse("GPU-a", 9 * GIB, "C"),)}


def test_eight_gpus_with_64_processes_each(read):
    def processes(gpu):
        return [{"pid": 1000 * gpu + i, "used_bytes": (gpu * 64 + i) * MIB} for i in range(64)]

    reading = read(
        {"gpus": [{"used_bytes": 70 * GIB, "processes": processes(g)} for g in range(8)]}
    )
    assert [device.index for device in reading.devices] == list(range(8))
    assert len(reading.uses) == 8 * 64
    for gpu, device in enumerate(reading.devices):
        held = {
            pid: use.used_bytes
            for pid, uses in reading.uses.items()
            for use in uses
            if use.uuid == device.uuid
        }
        assert held == {1000 * gpu + i: (gpu * 64 + i) * MIB for i in range(64)}
        assert device.memory.unattributed_bytes == 70 * GIB - sum(held.values())
    assert reading.problems == ()


def test_more_processes_than_the_first_buffer_holds(read):
    processes = [{"pid": i, "used_bytes": i} for i in range(1, 301)]
    reading = read({"gpus": [{"used_bytes": GIB, "processes": processes}]})
    assert {pid: use.used_bytes for pid, (use,) in reading.uses.items()} == {
        i: i for i in range(1, 301)
    }


def test_a_process_on_two_gpus_has_a_use_for_each(read):
    gpus = [{"uuid": f"GPU-{g}", "processes": [{"pid": 5, "used_bytes": g + 1}]} for g in range(2)]
    reading = read({"gpus": gpus})
    assert reading.uses[5] == (DeviceUse("GPU-0", 1, "C"), DeviceUse("GPU-1", 2, "C"))


@pytest.mark.parametrize(
    ("lists", "kind"),
    [("C", "C"), ("G", "G"), ("M", "M"), ("CG", "C+G"), ("GC", "C+G"), ("CM", "M+C")],
)
def test_a_pid_in_several_lists_is_one_process_with_the_largest_figure(read, lists, kind):
    processes = [
        {"pid": 7, "used_bytes": (n + 1) * GIB, "list": letter} for n, letter in enumerate(lists)
    ]
    reading = read({"gpus": [{"uuid": "GPU-a", "used_bytes": 5 * GIB, "processes": processes}]})
    assert reading.uses == {7: (DeviceUse("GPU-a", len(lists) * GIB, kind),)}
    assert reading.devices[0].memory.unattributed_bytes == (5 - len(lists)) * GIB


def test_a_process_without_a_figure_is_unknown_and_so_is_the_rest(read):
    reading = read(
        {
            "gpus": [
                {
                    "uuid": "GPU-a",
                    "used_bytes": 5 * GIB,
                    "processes": [{"pid": 7, "used_bytes": None}, {"pid": 8, "used_bytes": GIB}],
                },
                {"used_bytes": GIB},
            ]
        }
    )
    assert reading.uses[7] == (DeviceUse("GPU-a", None, "C"),)
    assert reading.uses[8] == (DeviceUse("GPU-a", GIB, "C"),)
    assert reading.devices[0].memory.unattributed_bytes is None
    assert reading.devices[1].memory.unattributed_bytes == GIB
    (problem,) = reading.problems
    assert problem.message.startswith("GPU 0: ")
    assert "N/A" in problem.message


def test_dead_and_invisible_pids_pass_through(read):
    dead = os.fork()
    if not dead:
        os._exit(0)
    os.waitpid(dead, 0)
    assert not psutil.pid_exists(dead)
    beyond_any_namespace = 4_194_305
    reading = read(
        {
            "gpus": [
                {
                    "used_bytes": 3,
                    "processes": [
                        {"pid": dead, "used_bytes": 1},
                        {"pid": beyond_any_namespace, "used_bytes": 2},
                    ],
                }
            ]
        }
    )
    assert {pid: use.used_bytes for pid, (use,) in reading.uses.items()} == {
        dead: 1,
        beyond_any_namespace: 2,
    }


def test_processes_that_hold_more_than_the_device_uses_leave_the_rest_unknown(read):
    reading = read({"gpus": [{"used_bytes": 1, "processes": [{"pid": 7, "used_bytes": GIB}]}]})
    assert reading.devices[0].memory.used_bytes == 1
    assert reading.devices[0].memory.unattributed_bytes is None
    assert "more than the device" in reading.problems[0].message


@pytest.mark.parametrize("count", [1, 2, 3, 64])
@pytest.mark.parametrize("entry_bytes", [16, 24, 32])
def test_the_layout_of_process_entries_is_measured(read, entry_bytes, count):
    """16 bytes: nvitop 226; 24: the usual; 32: drivers 535.43 to 535.86."""
    processes = [{"pid": 100 + i, "used_bytes": i * GIB} for i in range(count)]
    processes[-1]["used_bytes"] = None
    reading = read(
        {
            "driver": "535.43.02",
            "process_bytes": entry_bytes,
            "gpus": [{"used_bytes": 80 * GIB, "processes": processes}],
        }
    )
    expected = {100 + i: i * GIB for i in range(count)}
    expected[100 + count - 1] = None
    assert {pid: use.used_bytes for pid, (use,) in reading.uses.items()} == expected


def test_pynvml_alone_reads_the_535_43_layout_wrong(nvml_here):
    """The stand-in shows the fault that the measuring is for."""
    import pynvml

    processes = [{"pid": 100 + i, "used_bytes": i * GIB} for i in range(3)]
    nvml_here({"process_bytes": 32, "gpus": [{"processes": processes}]})
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    listed = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    pynvml.nvmlShutdown()
    assert [process.pid for process in listed] != [100, 101, 102]


@pytest.mark.parametrize("hidden", [V3_LISTS, V3_LISTS + V2_LISTS], ids=["no v3", "only v1"])
def test_an_old_driver_without_the_newer_lists(read, hidden):
    processes = [
        {"pid": 7, "used_bytes": GIB},
        {"pid": 7, "used_bytes": GIB, "list": "G"},
        {"pid": 8, "used_bytes": 2 * GIB, "list": "M"},
    ]
    reading = read({"gpus": [{"used_bytes": 4 * GIB, "processes": processes}]}, hidden)
    assert {pid: (u.used_bytes, u.kind) for pid, (u,) in reading.uses.items()} == {
        7: (GIB, "C+G"),
        8: (2 * GIB, "M"),
    }
    assert reading.devices[0].memory.unattributed_bytes == GIB
    assert reading.problems == ()


def test_an_old_driver_without_mps_lists_and_memory_v2(read):
    base = "nvmlDeviceGetMPSComputeRunningProcesses"
    hidden = ("nvmlDeviceGetMemoryInfo_v2", base, base + "_v2", base + "_v3")
    reading = read({"gpus": [{"used_bytes": GIB, "reserved_bytes": MIB}]}, hidden)
    memory = reading.devices[0].memory
    assert (memory.used_bytes, memory.driver_reserved_bytes) == (GIB + MIB, None)
    assert [problem.message for problem in reading.problems] == [
        "GPU 0: the driver does not report driver reserve"
    ]


@pytest.mark.parametrize(
    "gpu",
    [
        {"total_bytes": 0},
        {
            "errors": {
                "nvmlDeviceGetMemoryInfo_v2": "NOT_SUPPORTED",
                "nvmlDeviceGetMemoryInfo": "NOT_SUPPORTED",
            }
        },
    ],
    ids=["total 0", "not supported"],
)
def test_unified_memory_is_the_hosts(read, gpu):
    processes = [{"pid": 7, "used_bytes": GIB}]
    reading = read({"gpus": [{**gpu, "name": "NVIDIA GB10", "processes": processes}]})
    (device,) = reading.devices
    assert device.unified_memory
    assert device.memory.total_bytes == psutil.virtual_memory().total
    assert 0 < device.memory.used_bytes < device.memory.total_bytes
    assert device.memory.unattributed_bytes is None
    assert reading.uses[7][0].used_bytes == GIB
    assert reading.problems == ()


def test_mig_instances_are_rows_and_an_empty_slot_does_not_hide_the_next(read):
    reading = read(
        {
            "gpus": [
                {
                    "uuid": "GPU-a",
                    "used_bytes": 14 * GIB,
                    "mig_slots": 7,
                    "mig": {
                        0: {"uuid": "MIG-0", "gi": 7, "ci": 0, "used_bytes": 5 * GIB},
                        2: {
                            "uuid": "MIG-2",
                            "name": "MIG 3g.40gb",
                            "gi": 9,
                            "ci": 0,
                            "total_bytes": 40 * GIB,
                            "used_bytes": 8 * GIB,
                        },
                    },
                    "processes": [
                        {"pid": 7, "used_bytes": 4 * GIB, "gi": 7, "ci": 0},
                        {"pid": 8, "used_bytes": 6 * GIB, "gi": 9, "ci": 0},
                    ],
                },
                {"uuid": "GPU-b"},
            ]
        }
    )
    device, other = reading.devices
    assert [(row.index, row.uuid) for row in device.mig] == [(0, "MIG-0"), (2, "MIG-2")]
    second = device.mig[1]
    assert (second.name, second.gpu_instance_id, second.compute_instance_id) == (
        "MIG 3g.40gb",
        9,
        0,
    )
    assert (second.memory.total_bytes, second.memory.used_bytes) == (40 * GIB, 8 * GIB)
    assert [row.memory.unattributed_bytes for row in device.mig] == [GIB, 2 * GIB]
    assert device.memory.unattributed_bytes == 4 * GIB
    assert device.utilization_percent is None
    assert other.mig == ()
    assert reading.uses == {
        7: (DeviceUse("MIG-0", 4 * GIB, "C"),),
        8: (DeviceUse("MIG-2", 6 * GIB, "C"),),
    }
    assert reading.problems == ()


def test_a_process_without_a_figure_leaves_only_its_own_instance_unknown(read):
    reading = read(
        {
            "gpus": [
                {
                    "used_bytes": 9 * GIB,
                    "mig": {slot: {"gi": slot, "ci": 0, "used_bytes": 4 * GIB} for slot in (0, 1)},
                    "processes": [
                        {"pid": 7, "used_bytes": None, "gi": 0, "ci": 0},
                        {"pid": 8, "used_bytes": GIB, "gi": 1, "ci": 0},
                    ],
                }
            ]
        }
    )
    (device,) = reading.devices
    assert device.memory.unattributed_bytes is None
    assert [row.memory.unattributed_bytes for row in device.mig] == [None, 3 * GIB]


def test_mig_switched_on_without_instances(read):
    reading = read({"gpus": [{"mig": {}, "used_bytes": GIB}]})
    assert reading.devices[0].mig == ()
    assert reading.devices[0].memory.unattributed_bytes == GIB
    assert reading.problems == ()


def test_a_tick_over_eight_gpus_with_64_processes_costs_far_below_a_percent_of_a_core(nvml_here):
    processes = [{"pid": 10 + i, "used_bytes": GIB} for i in range(64)]
    nvml_here({"gpus": [{"used_bytes": 70 * GIB, "processes": processes}] * 8})
    backend = NvmlBackend()
    try:
        ticks_s = []
        for _ in range(30):
            started = time.thread_time()
            backend.read()
            ticks_s.append(time.thread_time() - started)
    finally:
        backend.close()
    print(f"{statistics.median(ticks_s) * 1e3:.2f} ms of CPU a tick")
    assert statistics.median(ticks_s) < 0.008
