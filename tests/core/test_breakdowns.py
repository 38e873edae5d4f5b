from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vramtop.core.breakdowns import breakdown_rows, layers, torch_devices
from vramtop.core.fleet import Fleet, reduce
from vramtop.core.model import CATEGORIES, Breakdown, ProbeDevice

GIB = 1 << 30


def test_bytes_shares_and_changes(make: Any) -> None:
    start = Breakdown(2 * GIB, 0, 0, GIB, 0, GIB, 4 * GIB)
    later = Breakdown(2 * GIB, 2 * GIB, 4 * GIB, GIB // 2, GIB // 2, GIB, 10 * GIB)
    fleet = Fleet()
    for at, breakdown in ((100.0, start), (101.0, later)):
        process = make.process(at=at, breakdown=breakdown)
        fleet = reduce(fleet, make.snapshot(at, process))
    rows = breakdown_rows(fleet, process, "cuda:0")
    assert [row.category for row in rows] == list(CATEGORIES)
    assert [row.texts for row in rows] == [
        ("parameters", "2.00 GiB", "20.0%", "0 B"),
        ("gradients", "2.00 GiB", "20.0%", "+2.00 GiB"),
        ("optimizer state", "4.00 GiB", "40.0%", "+4.00 GiB"),
        ("other allocated", "512 MiB", "5.0%", "-512 MiB"),
        ("cached, free", "512 MiB", "5.0%", "+512 MiB"),
        ("outside allocator", "1.00 GiB", "10.0%", "0 B"),
    ]
    assert sum(row.share or 0 for row in rows) == pytest.approx(1)


def test_unknown_parts_are_not_available(make: Any) -> None:
    breakdown = Breakdown(6, 1, 1, None, None, None, None)
    process = make.process()
    part = ProbeDevice("cpu", None, None, breakdown)
    process = replace(process, probe=replace(process.probe, devices=(part,)))
    fleet = reduce(Fleet(), make.snapshot(100.0, process))
    rows = breakdown_rows(fleet, process, "cpu")
    assert rows[0].texts == ("parameters", "6 B", "75.0%", "0 B")
    assert rows[3].texts == ("other allocated", "N/A", "N/A", "N/A")
    assert rows[5].texts == ("rest of RSS", "N/A", "N/A", "N/A")
    assert layers(breakdown) == (6, 1, 1, 0, 0, 0)


def test_nothing_to_break_down(make: Any) -> None:
    process = make.process()
    fleet = reduce(Fleet(), make.snapshot(100.0, process))
    assert breakdown_rows(fleet, process, "cuda:5") == []
    assert layers(None) is None


def test_the_most_used_torch_device_comes_first_and_the_cpu_last(make: Any) -> None:
    process = make.process()
    parts = (
        ProbeDevice("cpu", None, None, make.breakdown(900, 999)),
        ProbeDevice("cuda:0", None, None, make.breakdown(4, 40)),
        ProbeDevice("cuda:1", None, None, make.breakdown(4, 50)),
        ProbeDevice("cuda:2", None, None, None),
    )
    process = replace(process, probe=replace(process.probe, devices=parts))
    assert torch_devices(process) == ("cuda:1", "cuda:0", "cpu")
