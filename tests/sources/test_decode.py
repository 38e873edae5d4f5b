"""From messages to domain values: the good ones in full, and whatever a socket may bring."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vramtop.core.memory import Block, Breakdown, Detail, ModuleUse, Peak, Phase, Stage
from vramtop.core.model import ModelInfo, OptimizerInfo
from vramtop.errors import ProtocolError
from vramtop.sources import decode, decode_job


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
        "batch_shapes": [[8, 16], []],
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
            batch_shapes=((8, 16), ()),
        ),
    )


def test_a_job_in_full() -> None:
    model = {
        "class": "GPT2LMHeadModel",
        "parameters": 7,
        "trainable_parameters": 3,
        "parameters_by_dtype": {"uint8": 4, "float32": 3},
        "trainable_by_dtype": {"float32": 3},
        "tensors": 2,
        "trainable_tensors": 1,
        "hf_config": {"model_type": "gpt2"},
        "attention": "sdpa",
        "checkpointing": True,
        "quantized": "Params4bit",
        "lora": {"rank": 8, "targets": ["c_attn"], "dropout": 0.5, "of tomorrow": 1},
        "wrappers": ["DistributedDataParallel", "OptimizedModule"],
        "arguments": ["0", "labels"],
        "batch_shapes": [[4, 8], [4]],
        "training": False,
        "autocast": "bfloat16",
        "from the future": {},
    }
    assert decode_job.models({"models": [model]}) == (
        ModelInfo(
            class_name="GPT2LMHeadModel",
            parameters=7,
            trainable_parameters=3,
            parameters_by_dtype={"uint8": 4, "float32": 3},
            batch_shapes=((4, 8), (4,)),
            hf_config={"model_type": "gpt2"},
            trainable_by_dtype={"float32": 3},
            tensors=2,
            trainable_tensors=1,
            arguments=("0", "labels"),
            training=False,
            autocast="bfloat16",
            attention="sdpa",
            checkpointing=True,
            lora={"rank": 8, "targets": ["c_attn"], "dropout": 0.5},
            wrappers=("DistributedDataParallel", "OptimizedModule"),
            quantized="Params4bit",
        ),
    )
    optimizer = {
        "class": "AdamW",
        "module": "torch.optim.adamw",
        "steps": 4,
        "defaults": {"lr": 0.1},
        "parameters": 3,
        "state_by_dtype": {"float32": 6},
    }
    assert decode_job.optimizers({"optimizers": [optimizer]}) == (
        OptimizerInfo("AdamW", 4, {"lr": 0.1}, "torch.optim.adamw", {"float32": 6}, 3),
    )


def test_a_probe_from_before_these_fields() -> None:
    model = {"class": "Net", "parameters": 7, "trainable_parameters": 3}
    model |= {"parameters_by_dtype": {"float32": 7}, "batch_shapes": [[2]], "hf_config": None}
    assert decode_job.models({"models": [model]}) == (
        ModelInfo("Net", 7, 3, {"float32": 7}, batch_shapes=((2,),)),
    )
    optimizer = {"class": "SGD", "steps": 1, "defaults": {}}
    assert decode_job.optimizers({"optimizers": [optimizer]}) == (OptimizerInfo("SGD", 1, {}),)
    (device,) = decode.devices({"devices": [{"device": "cpu"}]})
    assert device.boundary is None
    assert decode.detail({"at": 1, "device": "cpu"})[1].batch_shapes == ()


def test_every_tensor_of_a_batch_has_a_name_or_none_has() -> None:
    model = {"parameters": 1, "trainable_parameters": 1, "batch_shapes": [[2], [3]]}
    with pytest.raises(ProtocolError, match="of one length"):
        decode_job.models({"models": [{**model, "arguments": ["ids"]}]})


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
        "batch_shapes": [[2, 3]],
    },
    decode_job.models: {
        "models": [
            {
                "class": "Net",
                "parameters": 1,
                "trainable_parameters": 1,
                "trainable_by_dtype": {"float32": 1},
                "tensors": 1,
                "arguments": ["0"],
                "batch_shapes": [[2, 3]],
                "training": True,
                "autocast": "float16",
                "lora": {"rank": 1, "targets": ["q"], "dropout": 0.1},
                "wrappers": ["FSDPModule"],
                "quantized": None,
            }
        ]
    },
    decode_job.optimizers: {
        "optimizers": [
            {"class": "SGD", "module": "m", "parameters": 1, "state_by_dtype": {"float32": 1}}
        ]
    },
    decode.devices: {"devices": [{"device": "cpu", "boundary": "step", "breakdown": BREAKDOWN}]},
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
