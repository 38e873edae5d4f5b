from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vramtop.core.alerts import alerts
from vramtop.core.fleet import Fleet, reduce
from vramtop.core.model import Host, MigDevice, ProbeDevice, Process, Snapshot
from vramtop.core.outlook import forecast_of, foresee

GIB = 1 << 30
MIB = 1 << 20


def fleet_of(make: Any, process: Any, rate: int, *, used: int = 40 * GIB, **more: Any) -> Fleet:
    """One process whose parameters grow by ``rate`` a second for a minute."""
    fleet = Fleet()
    for t in range(60):
        breakdown = replace(
            make.breakdown(10 * GIB + rate * t, used), cached_bytes=0, fragmentation_bytes=0
        )
        gpu = make.gpu(80 * GIB, used, 0)
        now = make.process(at=100.0 + t, breakdown=breakdown, **more)
        now = replace(now, probe=replace(now.probe, step=100 + 10 * t))
        fleet = reduce(fleet, make.snapshot(100.0 + t, process(now), devices=(gpu,)))
    return foresee(fleet)


def same(process: Process) -> Process:
    return process


def test_a_leak_is_an_alert_with_its_process_and_device(make: Any) -> None:
    fleet = fleet_of(make, same, 100 * MIB)
    (alert,) = alerts(fleet)
    assert (alert.kind, alert.pid, alert.device) == ("forecast", 7, "GPU-0")
    # 40 GiB are free: by 100 MiB a second they last 410 s.
    assert alert.text == "OOM in ~7 min (pid 7)"


def test_others_on_the_device_take_their_part_of_the_room(make: Any) -> None:
    near, far = (
        forecast_of(fleet, fleet.snapshot.processes[0])
        for fleet in (
            fleet_of(make, same, 100 * MIB, used=70 * GIB),
            fleet_of(make, same, 100 * MIB, used=40 * GIB),
        )
    )
    assert near is not None
    assert far is not None
    assert near.oom_in_s == pytest.approx(10 * GIB / (100 * MIB), rel=0.02)
    assert far.oom_in_s == pytest.approx(40 * GIB / (100 * MIB), rel=0.02)


def test_a_steady_process_is_none(make: Any) -> None:
    assert alerts(fleet_of(make, same, 0)) == ()


def test_what_streams_no_more_is_not_forecast(make: Any) -> None:
    fleet = fleet_of(make, same, 100 * MIB)
    (process,) = fleet.snapshot.processes
    stale = replace(process, probe=replace(process.probe, state="stale"))
    later = make.snapshot(161.0, stale, devices=fleet.snapshot.devices)
    assert foresee(reduce(fleet, later)).forecasts == {}


def test_the_host_has_what_is_available(make: Any) -> None:
    def on_cpu(process: Process) -> Process:
        (part,) = process.probe.devices
        assert part.breakdown is not None
        held = part.breakdown.parameter_bytes
        cpu = replace(
            part.breakdown, cached_bytes=None, fragmentation_bytes=None, process_bytes=held
        )
        probe = replace(process.probe, devices=(ProbeDevice("cpu", None, None, cpu),))
        return replace(process, probe=probe)

    fleet = fleet_of(make, on_cpu, 100 * MIB)
    (process,) = fleet.snapshot.processes
    assert forecast_of(fleet, process) is None  # the host's RAM is not known
    known = replace(fleet.snapshot, host=Host("box", 64 * GIB, 44 * GIB))
    found = forecast_of(foresee(replace(fleet, snapshot=known)), process)
    assert found is not None
    assert found.oom_in_s == pytest.approx(20 * GIB / (100 * MIB), rel=0.02)


def full(make: Any, used: int, **more: Any) -> Snapshot:
    return make.snapshot(100.0, devices=(make.gpu(100 * GIB, used * GIB, 0, **more),))


def test_a_full_device_is_an_alert_only_where_one_was_asked_for(make: Any) -> None:
    fleet = reduce(Fleet(), full(make, 95))
    assert alerts(fleet) == ()
    assert alerts(fleet, 95.1) == ()
    (alert,) = alerts(fleet, 95)
    assert alert.text == "GPU 0 is 95% full (of 100 GiB)"
    assert (alert.kind, alert.pid, alert.device) == ("threshold", None, "GPU-0")


def test_a_device_that_cannot_be_read_is_not_said_to_be_full(make: Any) -> None:
    assert alerts(reduce(Fleet(), full(make, 99, stale_s=5.0)), 90) == ()


def test_a_full_mig_instance_is_named(make: Any) -> None:
    gpu = make.gpu(100 * GIB, 30 * GIB, 0)
    part = MigDevice(2, "MIG-2", "MIG 1g.10gb", make.gpu(10 * GIB, 10 * GIB, 0).memory)
    fleet = reduce(Fleet(), make.snapshot(100.0, devices=(replace(gpu, mig=(part,)),)))
    assert [alert.text for alert in alerts(fleet, 90)] == ["GPU 0:2 is 100% full (of 10.0 GiB)"]


def test_the_key_stays_the_same_from_snapshot_to_snapshot(make: Any) -> None:
    keys = {alerts(reduce(Fleet(), full(make, used)), 90)[0].key for used in (91, 95, 99)}
    assert len(keys) == 1
