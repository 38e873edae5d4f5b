"""The segments message against hand-written snapshots.

The snapshots follow the documented format (torch/cuda/memory.py, ``_snapshot``) and the keys that
torch/csrc/cuda/Module.cpp writes; they are no recordings, for which a GPU is needed.
"""

import json
import random
import types

import pytest

from vramtop.probe import segments
from vramtop.protocol.framing import MAX_LINE_BYTES, encode
from vramtop.protocol.messages import MAX_BLOCKS, MAX_SEGMENTS
from vramtop.sources import decode

MIB = 1 << 20
AT = 0x7F00_0000_0000


def block(size, state, address=None):
    made = {"size": size, "requested_size": size - 12, "state": state, "frames": []}
    return made if address is None else {**made, "address": address}


def segment(address, blocks, *, kind="large", stream=0, pool=(0, 0), expandable=False, device=0):
    placed, total = [], 0
    for size, state in blocks:
        placed.append(block(size, state, address + total))
        total += size
    return {
        "device": device,
        "address": address,
        "total_size": total,
        "allocated_size": sum(size for size, state in blocks if state == "active_allocated"),
        "active_size": sum(size for size, state in blocks if state != "inactive"),
        "requested_size": 1,
        "stream": stream,
        "segment_type": kind,
        "segment_pool_id": pool,
        "is_expandable": expandable,
        "frames": [],
        "blocks": placed,
    }


SNAPSHOT = [
    segment(
        AT + 100 * MIB,
        [
            (8 * MIB, "active_allocated"),
            (2 * MIB, "active_allocated"),
            (6 * MIB, "inactive"),
            (4 * MIB, "active_pending_free"),
        ],
    ),
    segment(AT, [(512, "active_allocated"), (2 * MIB - 512, "inactive")], kind="small"),
    segment(AT + 200 * MIB, [(20 * MIB, "inactive")], stream=0x55D0_1234_5678),
    segment(
        AT + 300 * MIB,
        [(20 * MIB, "active_awaiting_free"), (20 * MIB, "active_allocated")],
        pool=(3, 0),
        expandable=True,
    ),
]
CATEGORIES = {AT: "parameter", AT + 100 * MIB: "activation", AT + 108 * MIB: "gradient"}


def test_a_snapshot_becomes_a_message():
    assert segments.message("cuda:0", 5.0, SNAPSHOT, CATEGORIES.get) == {
        "type": "segments",
        "device": "cuda:0",
        "at": 5.0,
        "omitted_segments": 0,
        "omitted_bytes": 0,
        "segments": [
            {
                "total_bytes": 2 * MIB,
                "pool": "small",
                "stream": 0,
                "expandable": False,
                "blocks": [[512, "allocated", "parameter"], [2 * MIB - 512, "free", None]],
            },
            {
                "total_bytes": 20 * MIB,
                "pool": "large",
                "stream": 0,
                "expandable": False,
                "blocks": [
                    [8 * MIB, "allocated", "activation"],
                    [2 * MIB, "allocated", "gradient"],
                    [6 * MIB, "free", None],
                    [4 * MIB, "pending", None],
                ],
            },
            {
                "total_bytes": 20 * MIB,
                "pool": "large",
                "stream": 1,
                "expandable": False,
                "blocks": [[20 * MIB, "free", None]],
            },
            {
                "total_bytes": 40 * MIB,
                "pool": "graph 1",
                "stream": 0,
                "expandable": True,
                "blocks": [[20 * MIB, "pending", None], [20 * MIB, "allocated", None]],
            },
        ],
    }


def test_an_older_torch_gives_fewer_keys():
    old = []
    for made in SNAPSHOT[:2]:
        kept = {k: v for k, v in made.items() if not k.startswith("is_") and "pool" not in k}
        kept["blocks"] = [{"size": b["size"], "state": b["state"]} for b in made["blocks"]]
        old.append(kept)
    new = segments.message("cuda:0", 5.0, SNAPSHOT[:2], CATEGORIES.get)
    assert segments.message("cuda:0", 5.0, old, CATEGORIES.get) == new


def test_neighbours_alike_become_one():
    made = segment(AT, [(MIB, "active_allocated")] * 3 + [(MIB, "inactive"), (MIB, "inactive")])
    sent = segments.message("cuda:0", 0.0, [made], lambda address: "parameter")
    assert sent["segments"][0]["blocks"] == [
        [3 * MIB, "allocated", "parameter"],
        [2 * MIB, "free", None],
    ]


def sums(sent):
    found = {"allocated": 0, "pending": 0, "free": 0}
    for made in sent["segments"]:
        for size, state, _ in made["blocks"]:
            found[state] += size
    return found


@pytest.mark.parametrize("expandable", [False, True])
def test_a_large_map_is_made_to_fit_and_its_sums_stay(expandable):
    rng = random.Random(3)
    categories = ["parameter", "gradient", "activation", None]
    by_address = {}
    made = []
    # One segment of 6000 blocks where segments are expandable, else many of some dozens.
    for i in range(1 if expandable else 150):
        blocks = []
        for n in range(6000 if expandable else 60):
            state = "inactive" if n % 7 == 3 else "active_allocated"
            blocks.append((512 * rng.randint(1, 4000), state))
        made.append(segment(AT + i * (1 << 32), blocks, expandable=expandable))
        by_address |= {b["address"]: rng.choice(categories) for b in made[-1]["blocks"]}
    sent = segments.message("cuda:0", 5.0, made, by_address.get)
    assert len(encode(sent)) < MAX_LINE_BYTES
    _, decoded = decode.segments(json.loads(encode(sent)))
    assert sum(len(s.blocks) for s in decoded.segments) <= MAX_BLOCKS
    assert decoded.omitted_segments == 0
    found = sums(sent)
    assert found["allocated"] == sum(s["allocated_size"] for s in made)
    assert found["free"] == sum(s["total_size"] - s["active_size"] for s in made)
    free = [b["size"] for s in made for b in s["blocks"] if b["state"] == "inactive"]
    shown = [b.size_bytes for s in decoded.segments for b in s.blocks if b.state == "free"]
    assert max(shown) == max(free)


def test_the_smallest_segments_are_left_out_and_counted():
    many = [
        segment(AT + i * (1 << 30), [((i + 2) * MIB, "inactive")]) for i in range(MAX_SEGMENTS + 3)
    ]
    sent = segments.message("cuda:0", 5.0, many, CATEGORIES.get)
    assert len(sent["segments"]) == MAX_SEGMENTS
    assert (sent["omitted_segments"], sent["omitted_bytes"]) == (3, (2 + 3 + 4) * MIB)


def test_what_cannot_be_merged_is_left_out():
    striped = [(MIB, "active_allocated"), (MIB, "inactive")]
    small = segment(AT, striped * 1000)
    large = segment(AT + (1 << 40), striped * 1500)
    sent = segments.message("cuda:0", 5.0, [small, large], CATEGORIES.get)
    assert [s["total_bytes"] for s in sent["segments"]] == [3000 * MIB]
    assert (sent["omitted_segments"], sent["omitted_bytes"]) == (1, 2000 * MIB)


def fake_torch(snapshot, *, initialized=True, **of_c):
    """A torch whose allocator says what it is told to: there is no GPU to ask."""
    cuda = types.SimpleNamespace(is_initialized=lambda: initialized, memory_snapshot=snapshot)
    return types.SimpleNamespace(cuda=cuda, _C=types.SimpleNamespace(**of_c))


def test_reading_never_asks_for_traces():
    asked = []

    def snapshot(mempool_id=None, include_traces=True):
        asked.append(include_traces)
        return [*SNAPSHOT, segment(0, [(MIB, "inactive")], device=1)]

    assert segments.read(fake_torch(snapshot), 0) == SNAPSHOT
    assert asked == [False]


@pytest.mark.parametrize(
    ("of_c", "expected"),
    [
        ({"_cuda_isHistoryEnabled": lambda: True}, None),
        ({"_cuda_isHistoryEnabled": lambda: False}, SNAPSHOT),
        ({}, None),  # a torch that cannot even tell
    ],
)
def test_a_torch_that_always_gives_traces_is_asked_only_when_there_are_none(of_c, expected):
    assert segments.read(fake_torch(lambda: SNAPSHOT, **of_c), 0) == expected


def test_reading_creates_no_context():
    torch = pytest.importorskip("torch")

    def snapshot():
        raise AssertionError("asking would create a context")

    assert segments.read(fake_torch(snapshot, initialized=False), 0) == []
    assert segments.read(torch, 0) == []


def test_this_torch_can_be_asked_without_traces():
    torch = pytest.importorskip("torch")
    import inspect

    assert "include_traces" in inspect.signature(torch.cuda.memory_snapshot).parameters
