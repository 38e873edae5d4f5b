"""The replay against what the allocator of a card has done (``tests/gpu/record_allocator``)."""

import json
from pathlib import Path

import pytest

from vramtop.estimator.allocator import CachingAllocator

FIXTURES = sorted((Path(__file__).parents[1] / "truth").glob("allocator-*.json"))


def places(segments):
    """(number of the segment by age, offset) of an address, from (address, size) pairs."""

    def place(address):
        for number, (start, size) in enumerate(segments):
            if start <= address < start + size:
                return number, address - start
        raise AssertionError(f"no segment holds {address:#x}")

    return place


@pytest.mark.skipif(
    not FIXTURES, reason="no card has been recorded yet: tests/gpu/record_allocator"
)
@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.stem)
def test_every_block_lies_where_the_card_had_it(fixture):
    recorded = json.loads(fixture.read_text())
    ours = CachingAllocator()
    theirs_segments, addresses = [], {}
    for event in recorded["events"]:
        if event["action"] == "segment_alloc":
            theirs_segments.append((event["addr"], event["size"]))
        elif event["action"] == "alloc":
            addresses[event["addr"]] = ours.malloc(event["size"], event["stream"])
            segments = [(s.address, s.total_bytes) for s in ours.segments()]
            assert [size for _, size in segments] == [size for _, size in theirs_segments]
            assert places(segments)(addresses[event["addr"]]) == places(theirs_segments)(
                event["addr"]
            )
        elif event["action"] == "free_completed":
            ours.free(addresses.pop(event["addr"]))
    blocks = [
        [(block.size_bytes, block.allocated) for block in segment.blocks]
        for segment in ours.segments()
    ]
    by_address = {segment["address"]: segment["blocks"] for segment in recorded["segments"]}
    assert blocks == [
        [(size, state.startswith("active")) for size, state in by_address[address]]
        for address, _ in theirs_segments
    ]
