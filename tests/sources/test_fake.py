from __future__ import annotations

import threading
import time
from itertools import islice

import pytest

from vramtop.core.memory import CATEGORIES
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
