"""Processes as probes tell of them."""

from dataclasses import replace

from vramtop.core.memory import Breakdown, Detail, Peak, Phase
from vramtop.core.model import (
    AllocatorStats,
    Device,
    DeviceMemory,
    DeviceUse,
    ModelInfo,
    OptimizerInfo,
    Probe,
    ProbeDevice,
    Process,
)

GIB = 1 << 30
GPT2 = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 2, "vocab_size": 100}
ADAMW = OptimizerInfo(
    "AdamW", 3, {"foreach": None, "fused": None}, "torch.optim.adamw", {"float32": 2000}, 1000
)
MODEL = ModelInfo(
    "GPT2LMHeadModel",
    parameters=1000,
    trainable_parameters=1000,
    parameters_by_dtype={"float32": 1000},
    batch_shapes=((4, 32), (4, 32)),
    hf_config=GPT2,
    trainable_by_dtype={"float32": 1000},
    tensors=10,
    trainable_tensors=10,
    arguments=("input_ids", "labels"),
    training=True,
    attention="sdpa",
    checkpointing=False,
)
BREAKDOWN = Breakdown(4000, 4000, 8000, 0, 0, 0, 0, 0, outside_allocator_bytes=GIB)
HOST = Device(0, "host", "host RAM", "host", DeviceMemory(64 * GIB, 20 * GIB, 44 * GIB))
A100 = Device(
    0,
    "GPU-1",
    "NVIDIA A100-SXM4-80GB",
    "nvml",
    DeviceMemory(80 * GIB, 30 * GIB, 50 * GIB),
)
COUNTERS = AllocatorStats(900, 1200, 900, 900, 0, 1000, 1200, 1, 0, 0)


def detail(*phases, batch_shapes=((4, 32), (4, 32))):
    """A sampled step; ``phases`` are names, or (name, count)."""
    told = [(p, 1) if isinstance(p, str) else p for p in phases]
    return Detail(
        0.0,
        5,
        tuple(Phase(name, 0, 0, 0, count) for name, count in told),
        Peak("forward", "", 20_000, BREAKDOWN),
        batch_shapes=batch_shapes,
    )


def process(model=MODEL, optimizers=(ADAMW,), device="cpu", of_detail=None, world=None, **changes):
    """``changes``: fields of the model."""
    if model is not None:
        model = replace(model, **changes)
    on_gpu = device != "cpu"
    part = ProbeDevice(
        device, "GPU-1" if on_gpu else None, COUNTERS if on_gpu else None, BREAKDOWN, of_detail
    )
    models = () if model is None else (model,)
    return Process(
        7,
        1.0,
        devices=(DeviceUse("GPU-1" if on_gpu else "host", 10 * GIB, "C" if on_gpu else "H"),),
        host_rss_bytes=10 * GIB,
        probe=Probe(
            "streaming", models=models, optimizers=optimizers, devices=(part,), world_size=world
        ),
    )
