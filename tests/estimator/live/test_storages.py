"""Footprints on the CPU: storages as they are, and the process around them."""

from tests.estimator.live.test_steps import timeline
from vramtop.estimator.judge import HOST_RAM, usable_bytes
from vramtop.estimator.storages import StoragePredictor
from vramtop.estimator.workload import Device


def test_nothing_is_cached_or_rounded():
    made = StoragePredictor(timeline(), {}, outside_bytes=7)
    footprint = made.at(10)
    assert footprint.peak_allocated_bytes == footprint.peak_reserved_bytes == 5504
    assert footprint.components["cached"] == footprint.components["workspace"] == 0
    assert footprint.process_bytes == sum(footprint.components.values()) == 5504 + 7
    assert [phase.name for phase in footprint.phases] == [
        "load",
        "forward",
        "backward",
        "step",
        "zero_grad",
    ]


def test_the_curve_goes_through_every_batch():
    made = StoragePredictor(timeline(), {}, outside_bytes=0)
    for batch in (1, 2, 5, 10, 40, 1000):
        assert made.process_bytes(batch) == made.at(batch).process_bytes
    assert made.with_outside(100).process_bytes(3) == made.process_bytes(3) + 100


def test_no_driver_keeps_any_of_the_hosts_ram():
    assert usable_bytes(Device(HOST_RAM, 1000)) == 1000
    assert usable_bytes(Device("a GPU", 1000)) < 1000
