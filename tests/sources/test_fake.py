from __future__ import annotations

import threading
import time
from itertools import islice

import pytest

from vramtop.core.memory import CATEGORIES, Breakdown, SegmentMap
from vramtop.core.model import Snapshot
from vramtop.sources.fake import SCENARIOS, START_S, FakeSource, snapshots


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_made_up_values_add_up_and_repeat(scenario: str) -> None:
    ticks = list(islice(snapshots(scenario), 30))
    assert ticks == list(islice(snapshots(scenario), 30))
    assert [tick.taken_at for tick in ticks] == [START_S + second for second in range(30)]
    for tick in ticks:
        for device in tick.devices:
            memory = device.memory
            reserved = memory.driver_reserved_bytes or 0
            assert memory.total_bytes == memory.used_bytes + memory.free_bytes + reserved
            uses = [u for p in tick.processes for u in p.devices if u.uuid == device.uuid]
            if memory.unattributed_bytes is not None and not device.mig:
                held = sum(use.used_bytes or 0 for use in uses)
                assert memory.used_bytes == held + memory.unattributed_bytes
        for process in tick.processes:
            for part in process.probe.devices:
                parts = [part.breakdown.bytes_of(category) for category in CATEGORIES]
                assert sum(size or 0 for size in parts) == part.breakdown.process_bytes
                if part.allocator:
                    assert sum(parts[:8]) == part.allocator.allocated_bytes
                    assert sum(parts[:10]) == part.allocator.reserved_bytes


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_made_up_detail_is_consistent(scenario: str) -> None:
    for tick in islice(snapshots(scenario), 30):
        parts = [part for process in tick.processes for part in process.probe.devices]
        assert parts
        for part in parts:
            detail = part.detail
            assert detail is not None
            assert detail.peak is not None
            assert 40 <= len(detail.modules) <= 60
            ends = [phase.after_bytes for phase in detail.phases]
            assert [phase.before_bytes for phase in detail.phases[1:]] == ends[:-1]
            for phase in detail.phases:
                assert phase.after is not None
                assert _tensors(phase.after) == phase.after_bytes
                assert max(phase.before_bytes, phase.after_bytes) <= phase.peak_bytes
            assert _tensors(detail.peak.breakdown) == detail.peak.total_bytes
            assert detail.peak.total_bytes == max(phase.peak_bytes for phase in detail.phases)
            after_forward = detail.phases[0].after
            assert (
                sum(module.activation_bytes for module in detail.modules)
                == after_forward.activation_bytes
            )
            assert sum(m.parameter_bytes for m in detail.modules) == after_forward.parameter_bytes
            assert part.stages
            assert (part.segments is None) == (part.device == "cpu")
            if part.segments is not None:
                _check_map(part.segments, part.breakdown)


def _tensors(breakdown: Breakdown) -> int:
    return sum(getattr(breakdown, f"{category}_bytes") for category in CATEGORIES[:8])


def _check_map(found: SegmentMap, breakdown: Breakdown) -> None:
    held = dict.fromkeys(CATEGORIES[:8], 0)
    pending = cached = fragmentation = 0
    for segment in found.segments:
        assert segment.total_bytes == sum(block.size_bytes for block in segment.blocks)
        assert all(block.size_bytes > 0 for block in segment.blocks)
        free = sum(block.size_bytes for block in segment.blocks if block.state == "free")
        if free == segment.total_bytes:
            cached += free
        else:
            fragmentation += free
        for block in segment.blocks:
            if block.state == "allocated":
                held[block.category] += block.size_bytes
            elif block.state == "pending":
                pending += block.size_bytes
    assert list(held.values()) == [breakdown.bytes_of(category) for category in CATEGORIES[:8]]
    assert cached == breakdown.cached_bytes
    assert fragmentation + pending == breakdown.fragmentation_bytes


def test_training_shows_every_state() -> None:
    ticks = list(islice(snapshots("training"), 10))
    assert {p.probe.state for p in ticks[0].processes} == {"streaming", "waiting", "none"}
    assert {p.state for p in ticks[0].processes} == {"running", "invisible"}
    assert ticks[0].processes[0].probe.history
    assert ticks[1].processes[0].probe.history is None
    assert [device.stale_s is not None for device in ticks[9].devices] == [False] * 3 + [True]
    assert ticks[9].problems


def test_the_source_delivers_from_its_thread_until_stopped() -> None:
    got: list[Snapshot] = []
    three = threading.Event()

    def deliver(snapshot: Snapshot) -> None:
        got.append(snapshot)
        if len(got) == 3:
            three.set()

    source = FakeSource("fleet", period_s=0.01)
    source.start(deliver)
    assert three.wait(5)
    source.stop()
    source.stop()
    count = len(got)
    assert len(got[0].devices) == 8
    time.sleep(0.05)
    assert len(got) == count
