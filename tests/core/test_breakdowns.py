from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vramtop.core.breakdowns import (
    CATEGORY_LABELS,
    PART_LABELS,
    breakdown_rows,
    layers,
    outside_bytes,
    torch_devices,
    with_allocator,
    with_process_figure,
)
from vramtop.core.fleet import Fleet, reduce
from vramtop.core.memory import CATEGORIES, PARTS, Breakdown, Detail, Peak
from vramtop.core.model import AllocatorStats, ProbeDevice

GIB = 1 << 30


def test_every_category_and_part_has_a_label() -> None:
    assert list(CATEGORY_LABELS) == list(CATEGORIES)
    assert set(PART_LABELS) == {part for part, _ in PARTS}


def test_bytes_shares_and_changes(make: Any) -> None:
    start = Breakdown(2 * GIB, 0, 0, GIB, 0, 0, 0, 0, 0, 0, GIB, 4 * GIB)
    later = Breakdown(
        parameter_bytes=2 * GIB,
        gradient_bytes=2 * GIB,
        optimizer_state_bytes=4 * GIB,
        activation_bytes=GIB // 4,
        input_bytes=GIB // 8,
        temporary_bytes=0,
        autograd_detail_bytes=GIB // 8,
        unknown_bytes=0,
        cached_bytes=GIB // 4,
        fragmentation_bytes=GIB // 4,
        outside_allocator_bytes=GIB,
        process_bytes=10 * GIB,
    )
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
        ("activations", "256 MiB", "2.5%", "-768 MiB"),
        ("inputs", "128 MiB", "1.2%", "+128 MiB"),
        ("temporaries", "0 B", "0.0%", "0 B"),
        ("autograd detail", "128 MiB", "1.2%", "+128 MiB"),
        ("unknown", "0 B", "0.0%", "0 B"),
        ("cached, free", "256 MiB", "2.5%", "+256 MiB"),
        ("fragmentation", "256 MiB", "2.5%", "+256 MiB"),
        ("outside allocator", "1.00 GiB", "10.0%", "0 B"),
    ]
    assert {row.peak_text for row in rows} == {"–"}
    assert sum(row.share or 0 for row in rows) == pytest.approx(1)


def test_the_last_peak_stands_beside_now_and_parts_are_within_their_category(make: Any) -> None:
    now = replace(make.breakdown(100, 200), buffer_bytes=7)
    at_peak = Breakdown(100, 40, 2, 60, 1, 0, 30, 0, autocast_cache_bytes=20)
    detail = Detail(at=99.0, step=3, phases=(), peak=Peak("backward", "h.0", 233, at_peak))
    process = make.process(breakdown=now)
    (part,) = process.probe.devices
    probe = replace(process.probe, devices=(replace(part, detail=detail),))
    process = replace(process, probe=probe)
    rows = {
        row.category: row
        for row in breakdown_rows(reduce(Fleet(), make.snapshot(100.0, process)), process, "cuda:0")
    }
    assert rows["gradient"].peak_bytes == 40
    assert rows["autograd_detail"].peak_text == "30 B"
    assert rows["cached"].peak_bytes is None
    parts = {name: [p.label for p in row.parts] for name, row in rows.items() if row.parts}
    assert parts == {"parameter": ["buffers"], "activation": ["autocast cache"]}
    (buffers,) = rows["parameter"].parts
    (casts,) = rows["activation"].parts
    assert (buffers.size_bytes, buffers.peak_bytes, buffers.share) == (7, 0, 7 / 200)
    assert (casts.size_bytes, casts.peak_bytes) == (0, 20)


def test_what_is_not_known_is_a_dash(make: Any) -> None:
    breakdown = Breakdown(6, 1, 1)
    process = make.process()
    part = ProbeDevice("cpu", None, None, breakdown)
    process = replace(process, probe=replace(process.probe, devices=(part,)))
    fleet = reduce(Fleet(), make.snapshot(100.0, process))
    rows = breakdown_rows(fleet, process, "cpu")
    assert rows[0].texts == ("parameters", "6 B", "75.0%", "0 B")
    assert rows[3].texts == ("activations", "–", "–", "–")
    assert rows[8].texts == ("cached, free", "–", "–", "–")
    assert rows[10].texts == ("rest of RSS", "–", "–", "–")
    assert layers(breakdown) == (6, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0)


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


def test_what_lies_outside_on_the_cpu_is_told_by_the_fullest_moment(make: Any) -> None:
    """An RSS that was once that full is what malloc keeps, whatever tensors hold right now."""
    at_rest = replace(make.breakdown(4, 40), process_bytes=900, outside_allocator_bytes=860)
    peak = Peak("backward", None, 300, make.breakdown(4, 40))
    sampled = Detail(1.0, 2, (), peak)
    base = make.process()

    def told(*parts: ProbeDevice) -> int | None:
        process = replace(base, probe=replace(base.probe, devices=parts))
        return outside_bytes(process, parts[0].device)

    assert told(ProbeDevice("cpu", None, None, at_rest, sampled)) == 600
    assert told(ProbeDevice("cpu", None, None, replace(at_rest, process_bytes=200), sampled)) == 0
    assert told(ProbeDevice("cuda:0", None, None, at_rest, sampled)) == 860
    assert told(ProbeDevice("cpu", None, None, None)) is None


_sizes = st.integers(0, 1 << 45)
_many = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@_many
@given(
    tensors=st.lists(_sizes, min_size=8, max_size=8),
    with_detail=st.booleans(),
    extra=_sizes,
    cached=_sizes,
    fragmentation=_sizes,
    outside=_sizes,
    swapped_out=st.booleans(),
)
def test_what_is_known_sums_to_the_process_exactly(
    make: Any,
    tensors: list[int],
    with_detail: bool,
    extra: int,
    cached: int,
    fragmentation: int,
    outside: int,
    swapped_out: bool,
) -> None:
    on_cpu = Breakdown(*tensors) if with_detail else Breakdown(*tensors[:3])
    held = sum(tensors) if with_detail else sum(tensors[:3])
    resident = max(held - 1, 0) if swapped_out else held + outside
    found = with_process_figure(on_cpu, resident, on_cpu.tensor_bytes)
    if resident >= held and resident:
        assert sum(layers(found) or ()) == resident
    else:
        assert found.outside_allocator_bytes is None

    allocated = held + (0 if with_detail else extra)
    reserved = allocated + cached + fragmentation
    process = reserved + outside
    on_gpu = replace(on_cpu, cached_bytes=cached, fragmentation_bytes=fragmentation)
    counters = AllocatorStats(allocated, reserved, allocated, None, None, 0, 0, 1, 0, 0)
    found = with_process_figure(with_allocator(on_gpu, counters), process, reserved)
    assert found.tensor_bytes == allocated
    if process:
        assert sum(layers(found) or ()) == process
        rows = _rows(make, found)
        assert sum(row.size_bytes or 0 for row in rows) == process


def _rows(make: Any, breakdown: Breakdown) -> list[Any]:
    process = make.process(breakdown=breakdown)
    return breakdown_rows(reduce(Fleet(), make.snapshot(100.0, process)), process, "cuda:0")


def test_an_allocator_that_counts_less_than_is_named_changes_nothing() -> None:
    counters = AllocatorStats(10, 20, 10, None, None, 0, 0, 1, 0, 0)
    assert with_allocator(Breakdown(11, 0, 0), counters) == Breakdown(11, 0, 0)
