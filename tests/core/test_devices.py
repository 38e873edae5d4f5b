from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vramtop.core.devices import SEGMENT_LABELS, device_rows, device_segments
from vramtop.core.fleet import Fleet, reduce
from vramtop.core.memory import CATEGORIES, Breakdown
from vramtop.core.model import (
    Device,
    DeviceMemory,
    MigDevice,
    Probe,
    ProbeDevice,
)

GIB = 1 << 30


def segments(make: Any, device: Any, *processes: Any) -> dict[str, int]:
    fleet = reduce(Fleet(), make.snapshot(100.0, *processes, devices=(device,)))
    found = device_segments(fleet, device)
    assert [key for key, _ in found] == (list(SEGMENT_LABELS) if found else [])
    return dict(found)


def test_a_gpu_is_explained_from_parameters_to_free(make: Any) -> None:
    # make.process: 4 + 1 + 2 + 3 allocated, 4 cached, 6 outside = 20
    found = segments(make, make.gpu(100, 60, 5), make.process(1), make.plain(2, 33))
    assert list(found.values()) == [4, 1, 2, 3, 0, 0, 0, 0, 4, 0, 6, 33, 5, 7, 35]


def test_what_exceeds_the_devices_own_figure_is_cut(make: Any) -> None:
    found = segments(make, make.gpu(100, 22, 5), make.process(1), make.plain(2, 33))
    assert found["other_processes"] == 2
    assert found["unattributed"] == 0
    assert found["free"] == 73


def test_a_probe_that_is_gone_explains_nothing(make: Any) -> None:
    found = segments(make, make.gpu(100, 60, 5), make.process(1, state="gone"))
    assert found["parameter"] == 0
    assert found["other_processes"] == 20


def test_a_probe_without_a_uuid_is_on_the_processs_only_device(make: Any) -> None:
    found = segments(make, make.gpu(), make.process(1, uuid=None))
    assert (found["parameter"], found["other_processes"]) == (4, 0)


def test_used_follows_from_free_where_it_is_unknown(make: Any) -> None:
    gpu = replace(make.gpu(), memory=DeviceMemory(100, None, 30, 5))
    assert segments(make, gpu)["unattributed"] == 65


@pytest.mark.parametrize(("total", "used"), [(None, 60), (100, None), (None, None)])
def test_an_unknown_device_has_no_segments(make: Any, total: int | None, used: int | None) -> None:
    assert segments(make, make.gpu(total, used)) == {}


def test_resident_sets_are_not_summed_on_the_host(make: Any) -> None:
    host = Device(0, "host", "host RAM", "host", DeviceMemory(1000, 400, 600))
    breakdown = Breakdown(10, 5, 20, outside_allocator_bytes=65, process_bytes=100)
    probe = Probe("streaming", at=100.0, devices=(ProbeDevice("cpu", None, None, breakdown),))
    trained = make.plain(1, 100, "host", probe=probe)
    found = segments(make, host, trained, make.plain(2, 390, "host"), make.plain(3, 390, "host"))
    assert found["parameter"] + found["gradient"] + found["optimizer_state"] == 35
    assert found["outside_allocator"] == 65
    assert found["other_processes"] == 300
    assert (found["unattributed"], found["free"]) == (0, 600)


def test_a_mig_gpu_holds_what_its_instances_hold(make: Any) -> None:
    memory = DeviceMemory(50, 20, 30)
    mig = MigDevice(index=1, uuid="MIG-1", name="3g", memory=memory)
    gpu = replace(make.gpu(100, 20, 0), mig=(mig,))
    plain = make.plain(2, 20, "MIG-1")
    assert segments(make, gpu, plain)["other_processes"] == 20
    fleet = reduce(Fleet(), make.snapshot(100.0, plain, devices=(gpu,)))
    assert dict(device_segments(fleet, mig))["other_processes"] == 20
    assert [(row.short_name, row.uuid) for row in device_rows(fleet)] == [
        ("0", "GPU-0"),
        ("0:1", "MIG-1"),
    ]


_bytes = st.one_of(st.none(), st.integers(-5, 1 << 40))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    total=_bytes,
    used=_bytes,
    free=_bytes,
    reserved=_bytes,
    probed=st.lists(st.lists(st.integers(0, 1 << 40), min_size=11, max_size=11), max_size=3),
    plain=st.lists(_bytes, max_size=3),
    is_host=st.booleans(),
)
def test_segments_sum_to_the_total_exactly(
    make: Any,
    total: int | None,
    used: int | None,
    free: int | None,
    reserved: int | None,
    probed: list[list[int]],
    plain: list[int | None],
    is_host: bool,
) -> None:
    device = Device(
        index=0,
        uuid="host" if is_host else "GPU-0",
        name="any",
        backend="host" if is_host else "nvml",
        memory=DeviceMemory(total, used, free, reserved),
    )
    name = "cpu" if is_host else "cuda:0"
    trained = [
        make.plain(
            pid,
            sum(sizes),
            device.uuid,
            probe=Probe(
                "streaming",
                at=100.0,
                devices=(ProbeDevice(name, device.uuid, None, Breakdown(*sizes)),),
            ),
        )
        for pid, sizes in enumerate(probed, 1)
    ]
    others = [make.plain(50 + i, size, device.uuid) for i, size in enumerate(plain)]
    found = segments(make, device, *trained, *others)
    assert bool(found) == (total is not None and not (used is None and free is None))
    assert all(size >= 0 for size in found.values())
    assert sum(found.values()) == (max(total or 0, 0) if found else 0)
    known = {c: sum(sizes[i] for sizes in probed) for i, c in enumerate(CATEGORIES)}
    assert all(found[c] <= known[c] for c in CATEGORIES if found)


def test_device_texts(make: Any) -> None:
    gpu = make.gpu(
        80 * GIB,
        20 * GIB,
        utilization_percent=97.4,
        temperature_c=61.0,
        power_w=512.3,
        power_limit_w=700.0,
        sm_clock_mhz=1980,
        memory_clock_mhz=2619,
    )
    fleet = reduce(Fleet(), make.snapshot(100.0, devices=(gpu,)))
    (row,) = device_rows(fleet)
    assert row.memory_text == "20.0 GiB / 80.0 GiB"
    assert row.used_share == 0.25
    assert row.utilization_text == "97%"
    assert row.temperature_text == "61°C"
    assert row.power_text == "512/700 W"
    assert row.clocks_text == "1980/2619 MHz"
    assert row.state_text == ""
    assert row.used_history == ((100.0, 20 * GIB),)


def test_what_a_device_does_not_say_is_not_available(make: Any) -> None:
    gpu = make.gpu(None, None, unified_memory=True, stale_s=12.0)
    (row,) = device_rows(reduce(Fleet(), make.snapshot(100.0, devices=(gpu,))))
    assert row.memory_text == "N/A / N/A"
    assert row.used_share is None
    for text in (row.utilization_text, row.temperature_text, row.power_text, row.clocks_text):
        assert text == "N/A"
    assert row.state_text == "lost, values 12s old, unified memory: figures are the host's RAM"
