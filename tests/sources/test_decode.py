"""From messages to domain values: the good ones in full, and whatever a socket may bring."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vramtop.core.memory import Block, Breakdown, Detail, ModuleUse, Peak, Phase, Stage
from vramtop.errors import ProtocolError
from vramtop.sources import decode


def test_a_detail_in_full() -> None:
    tensors = dict.fromkeys(("parameter", "gradient", "optimizer_state", "activation"), 5)
    tensors |= {"input": 1, "temporary": 2, "autograd_detail": 3, "unknown": 4}
    tensors |= {"buffer": 1, "autocast_cache": 2, "kv_cache": 3, "recomputed": 1}
    held = {f"{name}_bytes": size for name, size in tensors.items()}
    expected = Breakdown(
        5,
        5,
        5,
        5,
        1,
        2,
        3,
        4,
        buffer_bytes=1,
        autocast_cache_bytes=2,
        kv_cache_bytes=3,
        recomputed_bytes=1,
    )
    message: dict[str, Any] = {
        "type": "detail",
        "device": "cuda:1",
        "at": 7.5,
        "step": 9,
        "phases": [
            {
                "name": "forward",
                "before_bytes": 1,
                "after_bytes": 2,
                "peak_bytes": 3,
                "count": 4,
                "after": held,
            },
            {"name": "other", "before_bytes": 2, "after_bytes": 2, "peak_bytes": None},
        ],
        "peak": {"phase": "forward", "module": None, "total_bytes": 30, "breakdown": held},
        "modules": [["h.0", "Block", 1, 2]],
        "notes": ["a note"],
        "from the future": 1,
    }
    assert decode.detail(message) == (
        "cuda:1",
        Detail(
            at=7.5,
            step=9,
            phases=(Phase("forward", 1, 2, 3, 4, expected), Phase("other", 2, 2, None)),
            peak=Peak("forward", None, 30, expected),
            modules=(ModuleUse("h.0", "Block", 1, 2),),
            notes=("a note",),
        ),
    )


def test_a_category_that_is_not_known_here_is_none() -> None:
    blocks = [[1, "allocated", "parameter"], [2, "allocated", "of tomorrow"], [3, "free", None]]
    segment = {"total_bytes": 6, "pool": "large", "stream": 1, "expandable": True, "blocks": blocks}
    _, found = decode.segments({"device": "cuda:0", "at": 1, "segments": [segment]})
    assert found.segments[0].expandable
    assert found.segments[0].blocks == (
        Block(1, "allocated", "parameter"),
        Block(2, "allocated"),
        Block(3, "free"),
    )


def test_stages_are_told_apart_by_device() -> None:
    row = {"calls": 1, "before_bytes": 1, "after_bytes": 2, "peak_bytes": 3, "seconds": 0.5}
    rows = [{**row, "device": device, "path": "a"} for device in ("cpu", "cuda:0")]
    stage = Stage("a", 1, 1, 2, 3, 0.5)
    assert decode.stages({"stages": rows}) == {"cpu": (stage,), "cuda:0": (stage,)}


@pytest.mark.parametrize(
    ("said", "heard"),
    [({"detail": "off"}, "off"), ({}, None), ({"detail": "of tomorrow"}, None)],
)
def test_the_state_of_the_detail(said: dict[str, Any], heard: str | None) -> None:
    assert decode.detail_state(said) == heard


BREAKDOWN = {"parameter_bytes": 3, "gradient_bytes": 2, "optimizer_state_bytes": 1}
GOOD = {
    decode.detail: {
        "device": "cpu",
        "at": 1.0,
        "step": 2,
        "phases": [
            {"name": "step", "before_bytes": 1, "after_bytes": 2, "count": 1, "after": BREAKDOWN}
        ],
        "peak": {"phase": "step", "module": "", "total_bytes": 6, "breakdown": BREAKDOWN},
        "modules": [["h", "Block", 1, 2]],
        "notes": ["a note"],
    },
    decode.segments: {
        "device": "cpu",
        "at": 1.0,
        "omitted_segments": 1,
        "segments": [
            {"total_bytes": 2, "pool": "small", "stream": 0, "blocks": [[2, "free", "input"]]}
        ],
    },
    decode.stages: {
        "stages": [{"path": "a", "calls": 1, "before_bytes": 1, "after_bytes": 2, "seconds": 1.5}]
    },
}
_junk = st.sampled_from(
    [None, True, -1, 0, 1 << 70, 10**400, 1.5, -1e300, "", "free", "\x1b[2J", [], [[]], {}, [{}]]
)


@settings(max_examples=300, deadline=None)
@given(read=st.sampled_from(list(GOOD)), junk=_junk, data=st.data())
def test_whatever_stands_in_a_field_is_a_value_or_a_clear_refusal(
    read: Any, junk: Any, data: st.DataObject
) -> None:
    message = copy.deepcopy(GOOD[read])
    read(message)
    at: Any = message
    while True:
        key = data.draw(st.sampled_from(list(at) if isinstance(at, dict) else range(len(at))))
        if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.booleans()):
            break
        at = at[key]
    at[key] = junk
    with contextlib.suppress(ProtocolError):
        found = read(message)
        assert "\x1b" not in repr(found)
