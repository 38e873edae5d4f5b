from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vramtop.core.fleet import GONE_KEPT_S, MAX_DEVICE_POINTS, Fleet, reduce
from vramtop.core.memory import CATEGORIES, Breakdown
from vramtop.core.model import DeviceUse, MigDevice, Probe, ProbeDevice, Snapshot
from vramtop.sources.fake import snapshots

KEY = (7, 1.0)


def fleet_of(*snapshots: Any) -> Fleet:
    fleet = Fleet()
    for snapshot in snapshots:
        fleet = reduce(fleet, snapshot)
    return fleet


def test_before_the_first_snapshot_it_waits(make: Any) -> None:
    assert Fleet().is_waiting
    assert not fleet_of(make.snapshot(1.0)).is_waiting


def test_samples_become_history_and_the_first_is_kept(make: Any) -> None:
    fleet = fleet_of(
        *(
            make.snapshot(100.0 + t, make.process(at=100.0 + t, breakdown=make.breakdown(4 + t)))
            for t in range(3)
        )
    )
    history = fleet.histories[KEY, "cuda:0"]
    assert [(p.at, p.step, p.breakdown.parameter_bytes) for p in history] == [
        (100.0, 100, 4),
        (101.0, 101, 5),
        (102.0, 102, 6),
    ]
    assert fleet.first[KEY, "cuda:0"].breakdown.parameter_bytes == 4


def test_reducing_leaves_the_old_fleet_as_it_was(make: Any) -> None:
    one = fleet_of(make.snapshot(100.0, make.process(at=100.0)))
    reduce(one, make.snapshot(101.0, make.process(at=101.0)))
    assert len(one.histories[KEY, "cuda:0"]) == 1


def test_a_stale_probe_adds_no_points(make: Any) -> None:
    fleet = fleet_of(
        make.snapshot(100.0, make.process(at=100.0)),
        make.snapshot(109.0, make.process(at=100.5, state="stale")),
    )
    assert [p.at for p in fleet.histories[KEY, "cuda:0"]] == [100.0]


def test_a_probes_own_past_comes_first_and_sets_the_start(make: Any) -> None:
    late = make.process(at=101.0)
    past = tuple(
        replace(make.point(at, 2), breakdown=make.breakdown(2, None)) for at in (60.0, 61.0)
    )
    late = replace(late, probe=replace(late.probe, history={"cuda:0": past}))
    fleet = fleet_of(make.snapshot(100.0, make.process(at=100.0)), make.snapshot(101.0, late))
    assert [p.at for p in fleet.histories[KEY, "cuda:0"]] == [60.0, 61.0, 100.0, 101.0]
    first = fleet.first[KEY, "cuda:0"]
    assert (first.at, first.breakdown.parameter_bytes) == (60.0, 2)
    # The probe cannot know the driver's figure: change of it counts from when we knew it.
    assert first.breakdown.outside_allocator_bytes == make.breakdown().outside_allocator_bytes


def test_change_of_what_only_detail_tells_counts_from_its_first_step(make: Any) -> None:
    def seen(at: float, breakdown: Breakdown) -> Snapshot:
        process = make.process(at=at)
        part = ProbeDevice("cpu", None, None, breakdown)
        probe = replace(process.probe, devices=(part,))
        return make.snapshot(at, replace(process, probe=probe))

    plain = Breakdown(10, 0, 20, outside_allocator_bytes=70, process_bytes=100)
    told = Breakdown(10, 5, 20, 30, 4, 3, 2, 1, outside_allocator_bytes=45, process_bytes=120)
    later = replace(told, activation_bytes=50, process_bytes=140)
    fleet = fleet_of(seen(100.0, plain), seen(101.0, told), seen(102.0, later))
    first = fleet.first[KEY, "cpu"]
    changes = {
        category: later.bytes_of(category) - first.breakdown.bytes_of(category)
        for category in CATEGORIES
        if later.bytes_of(category) is not None
    }
    assert first.at == 100.0
    assert changes == {
        "parameter": 0,
        "gradient": 5,
        "optimizer_state": 0,
        "activation": 20,
        "input": 0,
        "temporary": 0,
        "autograd_detail": 0,
        "unknown": 0,
        "outside_allocator": 15,
    }
    assert sum(changes.values()) == 140 - 100


def test_an_ended_process_stays_for_a_minute_and_says_so(make: Any) -> None:
    seen = make.snapshot(100.0, make.process(at=100.0))
    fleet = fleet_of(seen, make.snapshot(101.0, devices=(make.gpu(),)))
    (gone,) = fleet.processes
    assert (gone.key, gone.state, gone.probe.state) == (KEY, "gone", "gone")
    assert fleet.process(KEY) is gone
    assert (KEY, "cuda:0") in fleet.histories
    kept = reduce(fleet, make.snapshot(100.0 + GONE_KEPT_S))
    assert kept.processes == (gone,)
    forgotten = reduce(kept, make.snapshot(101.0 + GONE_KEPT_S))
    assert forgotten.processes == ()
    assert not forgotten.histories
    assert not forgotten.first


@pytest.mark.parametrize("lost", ["device", "everything"])
def test_a_process_whose_device_cannot_be_read_is_not_called_gone(make: Any, lost: str) -> None:
    gpu = make.gpu()
    other = replace(gpu, index=1, uuid="GPU-1")
    seen = make.snapshot(100.0, make.process(at=100.0), devices=(gpu, other))
    devices = (replace(gpu, stale_s=1.0), other) if lost == "device" else ()
    fleet = fleet_of(seen, make.snapshot(101.0, devices=devices))
    assert [(p.state, p.probe.state) for p in fleet.processes] == [("invisible", "stale")]
    back = reduce(fleet, make.snapshot(102.0, make.process(at=102.0), devices=(gpu,)))
    assert [p.state for p in back.processes] == ["running"]
    assert [p.at for p in back.histories[KEY, "cuda:0"]] == [100.0, 102.0]


def test_a_process_that_is_back_is_there_once(make: Any) -> None:
    fleet = fleet_of(
        make.snapshot(100.0, make.process(at=100.0)),
        make.snapshot(101.0),
        make.snapshot(102.0, make.process(at=102.0)),
    )
    assert [p.state for p in fleet.processes] == ["running"]
    assert len(fleet.histories[KEY, "cuda:0"]) == 2


def test_a_reused_pid_is_another_process(make: Any) -> None:
    fleet = fleet_of(
        make.snapshot(100.0, make.process(at=100.0)),
        make.snapshot(101.0, make.process(at=101.0, started_at=100.5), devices=(make.gpu(),)),
    )
    assert sorted((p.key, p.state) for p in fleet.processes) == [
        ((7, 1.0), "gone"),
        ((7, 100.5), "running"),
    ]


def test_a_program_that_is_being_taken_down_is_shown_with_what_it_held(make: Any) -> None:
    # Linux frees a process's memory before it closes its sockets and before it is a zombie.
    before = replace(
        make.process(at=100.0), host_rss_bytes=900, devices=(DeviceUse("host", 900, "H"),)
    )
    leaving = replace(before, host_rss_bytes=0, devices=(DeviceUse("host", 0, "H"),))
    fleet = fleet_of(make.snapshot(100.0, before), make.snapshot(101.0, leaving))
    (process,) = fleet.processes
    assert (process.used_bytes, process.host_rss_bytes) == (900, 900)


def test_a_dying_training_keeps_its_name_and_the_drivers_figures(make: Any) -> None:
    # Its probe is still heard when the host can say nothing more of it.
    before = make.process(at=100.0, command="python3 -u ddp.py")
    whole = before.probe.devices[0].breakdown.process_bytes
    assert whole
    part = replace(before.probe.devices[0], breakdown=make.breakdown(5, None))
    dying = replace(
        before,
        state="gone",
        command="[python3]",
        devices=(),
        host_rss_bytes=None,
        probe=replace(before.probe, at=101.0, devices=(part,)),
    )
    dead = replace(dying, probe=replace(dying.probe, state="gone"))
    seen = [(100.0, before), (101.0, dying), (102.0, dead)]
    fleet = fleet_of(*(make.snapshot(at, process) for at, process in seen))
    (process,) = fleet.processes
    assert (process.state, process.command) == ("gone", "python3 -u ddp.py")
    assert process.devices == before.devices
    assert process.probe.devices[0].breakdown.process_bytes == whole


def test_a_dead_pid_that_is_still_listed_keeps_its_identity(make: Any) -> None:
    dead = make.process(at=100.0, state="gone", started_at=None, user=None, command=None)
    dead = replace(dead, state="gone")
    fleet = fleet_of(
        make.snapshot(100.0, make.process(at=100.0)),
        make.snapshot(101.0, dead),
        make.snapshot(102.0, dead),
    )
    (process,) = fleet.processes
    assert (process.key, process.user, process.state) == (KEY, "ada", "gone")
    # Its end was on the screen while it was listed; it is not kept once more.
    assert reduce(fleet, make.snapshot(103.0)).processes == ()


def test_host_processes_without_a_probe_are_not_missed(make: Any) -> None:
    plain = make.plain(9, 50, "host")
    waiting = replace(make.plain(8, 50, "host"), probe=Probe("waiting"))
    fleet = fleet_of(make.snapshot(100.0, plain, waiting), make.snapshot(101.0))
    assert [p.pid for p in fleet.processes] == [8]


def test_device_use_is_kept_for_mig_instances_too_and_bounded(make: Any) -> None:
    gpu = make.gpu(used=60)
    mig = MigDevice(index=1, uuid="MIG-1", name="1g", memory=make.gpu(used=8).memory)
    snapshots = [make.snapshot(float(t), devices=(replace(gpu, mig=(mig,)),)) for t in range(400)]
    lost = make.snapshot(400.0, devices=(replace(gpu, mig=(mig,), stale_s=3.0),))
    fleet = fleet_of(*snapshots, lost)
    assert len(fleet.device_used["GPU-0"]) == MAX_DEVICE_POINTS
    assert fleet.device_used["GPU-0"][-2:] == ((399.0, 60), (400.0, None))
    assert fleet.device_used["MIG-1"][-2:] == ((399.0, 8), (400.0, None))
    assert reduce(fleet, make.snapshot(401.0)).device_used == {}


def test_a_killed_training_keeps_its_last_values_but_not_its_pace() -> None:
    alive = next(snapshots("training"))
    watched = next(p for p in alive.processes if p.probe.state == "streaming")
    dead = replace(
        watched,
        state="gone",
        devices=(),
        host_rss_bytes=None,
        probe=replace(watched.probe, state="gone", devices=(), steps_per_s=None),
    )
    for started_at in (watched.started_at, None):
        later = replace(
            alive,
            taken_at=alive.taken_at + 1,
            processes=(replace(dead, started_at=started_at),),
        )
        (shown,) = [
            p for p in reduce(reduce(Fleet(), alive), later).processes if p.pid == watched.pid
        ]
        assert (shown.state, shown.probe.state) == ("gone", "gone")
        assert shown.devices == watched.devices
        assert shown.probe.devices == watched.probe.devices
        assert shown.probe.steps_per_s is None
