from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vramtop.core.fleet import Fleet, reduce
from vramtop.core.model import Device, DeviceMemory, DeviceUse, Probe, ProbeDevice
from vramtop.core.rows import PROCESS_COLUMNS, SORT_KEYS, ProcessRow, process_rows

GIB = 1 << 30


def pids(rows: list[ProcessRow]) -> list[int]:
    return [row.process.pid for row in rows]


@pytest.fixture
def fleet(make: Any) -> Fleet:
    rank = make.process(1, at=99.5, breakdown=make.breakdown(4 * GIB, 9 * GIB), user="ada")
    rank = replace(
        rank,
        cpu_percent=101.4,
        host_rss_bytes=3 * GIB,
        probe=replace(rank.probe, rank=0, world_size=8, steps_per_s=3.2),
    )
    both = make.plain(2, None, user="Grace", command="python serve.py", cpu_percent=2.0)
    both = replace(
        both, devices=(DeviceUse("GPU-0", None, "C"), DeviceUse("GPU-1", 5 * GIB, "C+G"))
    )
    hidden = make.plain(3, None, state="invisible", started_at=None)
    stale = make.process(4, at=88.0, state="stale", breakdown=make.breakdown(GIB, 2 * GIB))
    second = replace(make.gpu(), index=1, uuid="GPU-1", name="Fake A10")
    snapshot = make.snapshot(100.0, rank, both, hidden, stale, devices=(make.gpu(), second))
    return reduce(Fleet(), snapshot)


def test_the_cells_of_a_probed_process(fleet: Fleet) -> None:
    row = process_rows(fleet)[0]
    assert {column.key: row.text(column.key) for column in PROCESS_COLUMNS} == {
        "pid": "1",
        "user": "ada",
        "device": "0",
        "kind": "C",
        "memory": "9.00 GiB",
        "allocated": "4.00 GiB",
        "reserved": "4.00 GiB",
        "peak": "50 B",
        "largest": "outside allocator",
        "rate": "3.20 step/s",
        "rank": "r0/8",
        "probe": "streaming",
        "cpu": "101%",
        "rss": "3.00 GiB",
        "command": "python train.py",
    }


def test_unknown_is_not_available_and_no_probe_is_a_dash(fleet: Fleet) -> None:
    row = process_rows(fleet, "pid", descending=False)[2]
    shown = {key: row.text(key) for key in SORT_KEYS}
    assert shown["memory"] == shown["user"] == shown["rss"] == shown["cpu"] == "N/A"
    assert shown["allocated"] == shown["peak"] == shown["rate"] == "–"
    assert shown["probe"] == "invisible"
    assert "0 B" not in shown.values()


def test_a_process_on_two_gpus(fleet: Fleet) -> None:
    row = process_rows(fleet, "pid", descending=False)[1]
    assert (row.text("device"), row.text("kind"), row.text("memory")) == ("0,1", "C+G", "5.00 GiB")


def test_stale_values_show_their_age(fleet: Fleet) -> None:
    assert process_rows(fleet, "pid", descending=False)[3].text("probe") == "stale 12s"


@pytest.mark.parametrize(
    ("key", "descending", "order"),
    [
        ("memory", True, [1, 2, 4, 3]),
        ("memory", False, [4, 2, 1, 3]),
        ("allocated", True, [1, 4, 2, 3]),
        ("allocated", False, [4, 1, 2, 3]),
        ("pid", True, [4, 3, 2, 1]),
        ("user", False, [1, 4, 2, 3]),
        ("cpu", True, [1, 2, 3, 4]),
        ("cpu", False, [2, 1, 3, 4]),
        ("rate", True, [1, 2, 3, 4]),
    ],
)
def test_sorting_puts_the_unknown_last_both_ways(
    fleet: Fleet, key: str, descending: bool, order: list[int]
) -> None:
    assert pids(process_rows(fleet, key, descending)) == order


@pytest.mark.parametrize("key", SORT_KEYS)
def test_every_column_sorts(fleet: Fleet, key: str) -> None:
    assert sorted(pids(process_rows(fleet, key, True))) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [1, 2, 3, 4]),
        ("ada", [1, 4]),
        ("GRACE serve", [2]),
        ("serve ada", []),
        ("invisible", [3]),
        ("stale", [4]),
        ("a10", [2]),
        ("gpu1", [2]),
        ("GPU-0", [1, 2, 3, 4]),
        ("train streaming", [1]),
    ],
)
def test_every_word_of_the_filter_must_match(fleet: Fleet, text: str, found: list[int]) -> None:
    assert pids(process_rows(fleet, "pid", False, text)) == found


def test_an_unknown_sort_key_is_an_error(fleet: Fleet) -> None:
    with pytest.raises(KeyError):
        process_rows(fleet, "colour")


def test_the_cpu_counts_storages_and_has_no_allocator(make: Any) -> None:
    breakdown = replace(make.breakdown(GIB, 9 * GIB), activation_bytes=None, cached_bytes=None)
    probe = Probe("streaming", at=100.0, devices=(ProbeDevice("cpu", None, None, breakdown),))
    process = make.plain(5, 9 * GIB, "host", probe=probe)
    host = Device(0, "host", "host RAM", "host", DeviceMemory(64 * GIB, 20 * GIB, 44 * GIB))
    fleet = reduce(Fleet(), make.snapshot(100.0, process, devices=(host,)))
    (row,) = process_rows(fleet)
    assert row.text("allocated") == "1.00 GiB"
    assert row.text("reserved") == row.text("peak") == "–"
    assert row.text("largest") == "rest of RSS"
    assert (row.text("device"), row.text("kind")) == ("host", "H")


def test_a_gpu_process_is_described_by_its_gpu(make: Any) -> None:
    process = make.process(6)
    on_cpu = ProbeDevice("cpu", None, None, make.breakdown(5 * GIB, 50 * GIB))
    probe = replace(process.probe, devices=(on_cpu, *process.probe.devices))
    fleet = reduce(Fleet(), make.snapshot(100.0, replace(process, probe=probe)))
    (row,) = process_rows(fleet)
    assert row.allocated_bytes == 10
    assert row.largest == ("outside_allocator", "outside allocator")


@pytest.mark.parametrize(
    ("ended", "text"),
    [
        ("detached", "detached"),
        ("exit", "probe gone"),
        ("lost", "probe gone"),
        (None, "probe gone"),
    ],
)
def test_a_process_that_was_detached_from_says_so(make: Any, ended: Any, text: str) -> None:
    process = make.process(1, at=99.5, state="gone", breakdown=make.breakdown(GIB, 2 * GIB))
    process = replace(process, probe=replace(process.probe, ended=ended))
    fleet = reduce(Fleet(), make.snapshot(100.0, process))
    (row,) = process_rows(fleet)
    assert row.state_text == text
    # What a detached probe said is old and never renewed; of an end it is what was there then.
    last = ["1.00 GiB", "1.00 GiB", "50 B", "parameters", "N/A"]
    columns = ("allocated", "reserved", "peak", "largest", "rate")
    cells = [row.text(column) for column in columns]
    assert cells == (["–"] * 5 if ended == "detached" else last)
    assert (row.value("allocated") is None) == (ended == "detached")
