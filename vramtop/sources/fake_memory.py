"""FAKE memory of a training for the fake source: breakdowns, phases, modules, segments, stages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import cycle
from typing import Final

from ..core.memory import (
    TENSOR_CATEGORIES,
    Block,
    Breakdown,
    Detail,
    ModuleUse,
    Peak,
    Phase,
    Segment,
    SegmentMap,
    Stage,
)
from .fake_job import BATCH_SHAPES

HISTORY_S: Final = 120
"""How long the made-up training has run when the first snapshot is taken."""
RESERVED_SCALES: Final = 10
"""What the allocator holds, in scales: never less than a training needs at its peak."""
_STEPS_PER_S: Final = 3.2
_CYCLE_S: Final = 11.0
_BACKWARD_FROM: Final = 0.7
_MIB: Final = 1 << 20
_GRAIN: Final = 2 * _MIB
_LAYERS: Final = 12
_SEGMENT_BYTES: Final = 256 * _MIB
_BLOCK_BYTES: Final = (96 * _MIB, 24 * _MIB, 48 * _MIB)
_HOLE_WEIGHTS: Final = (0, 0, 3, 0, 1, 0, 0, 9, 1, 0, 2)
_SIDE_STREAM: Final = 7


def step_at(start_s: float, now: float) -> int:
    """Which step the training is at."""
    return int(_STEPS_PER_S * (now - start_s + HISTORY_S))


def gpu_breakdown(start_s: float, now: float, scale_bytes: int) -> Breakdown:
    """What a process holds on a GPU; ``scale_bytes`` is the size of its parameters."""
    tensors = _tensors(start_s, now, scale_bytes)
    allocated = sum(tensors.values())
    free = RESERVED_SCALES * scale_bytes - allocated
    fragmentation = min(free, scale_bytes // 4)
    outside = 420 * _MIB
    return _breakdown(
        tensors,
        cached_bytes=free - fragmentation,
        fragmentation_bytes=fragmentation,
        outside_allocator_bytes=outside,
        process_bytes=allocated + free + outside,
    )


def cpu_breakdown(start_s: float, now: float) -> Breakdown:
    """The same training on the CPU, smaller."""
    tensors = _tensors(start_s, now, 100 * _MIB)
    outside = 700 * _MIB
    return _breakdown(
        tensors,
        outside_allocator_bytes=outside,
        process_bytes=sum(tensors.values()) + outside,
    )


def detail(start_s: float, now: float, scale_bytes: int) -> Detail:
    """A step of four forwards and backwards; the peak is early in backward."""
    step = step_at(start_s, now)
    long_batch = 1 + 0.1 * math.sin(step / 3)
    activation = int(3.2 * scale_bytes * long_batch)
    begin = _phase_end(scale_bytes)
    forward = _phase_end(scale_bytes, activation=activation)
    at_peak = _phase_end(
        scale_bytes,
        activation=activation - activation // 24,
        gradient=scale_bytes - scale_bytes // 24,
        autograd_detail=scale_bytes // 2,
    )
    backward = _phase_end(scale_bytes, gradient=scale_bytes)
    # As in a run: what a phase leaves behind is less than what it needed for a moment.
    phases = (
        _phase("forward", begin, forward, forward.tensor_bytes + scale_bytes // 16, 4),
        _phase("backward", forward, backward, at_peak.tensor_bytes, 4),
        _phase("step", backward, backward, backward.tensor_bytes + scale_bytes, 1),
        _phase("zero_grad", backward, begin, backward.tensor_bytes, 1),
    )
    return Detail(
        at=now,
        step=step,
        phases=phases,
        peak=Peak("backward", "transformer.h.11.mlp", at_peak.tensor_bytes, at_peak),
        modules=tuple(_modules(scale_bytes, activation)),
        notes=("inside a compiled region modules cannot be told apart",),
        batch_shapes=BATCH_SHAPES,
    )


def segment_map(now: float, breakdown: Breakdown) -> SegmentMap:
    """Segments that hold exactly what a GPU's breakdown says, with holes between the blocks.

    A block that waits for a stream counts as fragmentation in the breakdown.
    """
    left = {category: breakdown.bytes_of(category) or 0 for category in TENSOR_CATEGORIES}
    holes = breakdown.fragmentation_bytes or 0
    segments = []
    for _ in range(4):
        blocks = []
        for category, size in (("parameter", _MIB), ("optimizer_state", _MIB // 2)):
            used = min(size, left[category])
            left[category] -= used
            blocks.append(Block(used, "allocated", category))
        hole = _GRAIN - sum(block.size_bytes for block in blocks)
        holes -= hole
        shown = (*blocks, Block(hole, "free"))
        segments.append(_segment("small", 0, tuple(b for b in shown if b.size_bytes)))
    used = min(8 * _MIB, left["activation"])
    pending, hole = 5 * _MIB, 7 * _MIB
    left["activation"] -= used
    holes -= pending + hole
    side = (Block(used, "allocated", "activation"), Block(pending, "pending"), Block(hole, "free"))
    segments.append(_segment("large", _SIDE_STREAM, tuple(b for b in side if b.size_bytes)))
    segments += _packed(_mixed(left, holes))
    cached = breakdown.cached_bytes or 0
    while cached:
        size = min(cached, 2 * _SEGMENT_BYTES)
        segments.append(_segment("large", 0, (Block(size, "free"),)))
        cached -= size
    return SegmentMap(now, tuple(segments))


def stages(start_s: float, now: float, scale_bytes: int) -> tuple[Stage, ...]:
    """The user's own stages, in the order in which they ended."""
    held = 3 * scale_bytes
    return (
        Stage("set up", 1, 0, scale_bytes, scale_bytes + scale_bytes // 3, 4.1),
        Stage("epoch / load", step_at(start_s, now), held, held + 2 * _MIB, None, 0.012),
        Stage("epoch", 3, held, held, 7 * scale_bytes, 35.0),
    )


def boundary_at(start_s: float, now: float) -> str:
    """The phase that has ended last."""
    return "forward" if _in_cycle(start_s, now) > _BACKWARD_FROM else "zero_grad"


def _in_cycle(start_s: float, now: float) -> float:
    return (now - start_s + HISTORY_S) % _CYCLE_S / _CYCLE_S


def _tensors(start_s: float, now: float, scale_bytes: int) -> dict[str, int]:
    """Bytes by category, a sawtooth.

    Gradients are freed when activations begin to rise; the optimizer's state appears with its
    first step, 100 s before the first snapshot.
    """
    age_s = now - start_s + HISTORY_S
    phase = _in_cycle(start_s, now)
    is_backward = phase > _BACKWARD_FROM
    moving = _whole(4.5 * scale_bytes * (phase if not is_backward else (1 - phase) * 7 / 3))
    sizes = {
        "parameter": scale_bytes,
        "gradient": _whole(scale_bytes * phase) if phase > 0.4 else 0,
        "optimizer_state": 2 * scale_bytes if age_s >= 20.0 else 0,
        "activation": 0,
        "input": _whole(moving / 50),
        "temporary": _whole(moving / 25) if is_backward else 0,
        "autograd_detail": _whole(moving / 8) if is_backward else 0,
        "unknown": _whole(moving / 100),
    }
    rest = ("input", "temporary", "autograd_detail", "unknown")
    sizes["activation"] = moving - sum(sizes[category] for category in rest)
    return sizes


def _breakdown(tensors: dict[str, int], **others: int) -> Breakdown:
    return Breakdown(
        **{f"{category}_bytes": size for category, size in tensors.items()},
        **others,
        buffer_bytes=tensors["parameter"] // 50,
        autocast_cache_bytes=tensors["activation"] // 10,
    )


def _phase_end(scale_bytes: int, **more: int) -> Breakdown:
    tensors = dict.fromkeys(TENSOR_CATEGORIES, 0)
    tensors |= {"parameter": scale_bytes, "optimizer_state": 2 * scale_bytes, "input": 2 * _MIB}
    return _breakdown(tensors | more)


def _phase(name: str, before: Breakdown, after: Breakdown, peak_bytes: int, count: int) -> Phase:
    return Phase(name, before.tensor_bytes, after.tensor_bytes, peak_bytes, count, after)


def _modules(scale_bytes: int, activation_bytes: int) -> Iterator[ModuleUse]:
    """A GPT-2; its modules' bytes sum to the two figures."""
    embedding = scale_bytes // 8
    in_layer, rest = divmod(scale_bytes - embedding, _LAYERS)
    logits = activation_bytes // 6
    of_layer, spare = divmod(activation_bytes - logits, _LAYERS)
    yield ModuleUse("", "GPT2LMHeadModel", 0, 0)
    yield ModuleUse("transformer.wte", "Embedding", 0, embedding)
    for layer in range(_LAYERS):
        path = f"transformer.h.{layer}"
        attention, projection = of_layer // 4, of_layer // 8
        yield ModuleUse(f"{path}.attn", "GPT2Attention", attention, 0)
        yield ModuleUse(f"{path}.attn.c_attn", "Conv1D", projection, in_layer // 3)
        mlp = of_layer - attention - projection
        yield ModuleUse(f"{path}.mlp", "GPT2MLP", mlp, in_layer - in_layer // 3)
    yield ModuleUse("transformer.ln_f", "LayerNorm", spare, rest)
    yield ModuleUse("lm_head", "Linear", logits, 0)


def _mixed(left: dict[str, int], holes_bytes: int) -> list[Block]:
    """The categories' blocks by turns, some with a hole before them."""
    blocks = []
    sizes = cycle(_BLOCK_BYTES)
    while any(left.values()):
        for category, there in left.items():
            size = min(next(sizes), there)
            if size:
                blocks.append(Block(size, "allocated", category))
                left[category] = there - size
    weights = [weight for weight, _ in zip(cycle(_HOLE_WEIGHTS), blocks, strict=False)]
    grain = holes_bytes // (sum(weights) or 1) // 512 * 512
    mixed = []
    for weight, block in zip(weights, blocks, strict=True):
        if weight:
            mixed.append(Block(weight * grain, "free"))
            holes_bytes -= weight * grain
        mixed.append(block)
    # What the division left over goes before the last block, which closes a segment in use.
    return [*mixed[:-1], Block(holes_bytes, "free"), mixed[-1]]


def _packed(blocks: list[Block]) -> Iterator[Segment]:
    """Segments of one size from blocks that are cut where a segment ends."""
    inside: list[Block] = []
    room = _SEGMENT_BYTES
    for block in blocks:
        size = block.size_bytes
        while size:
            piece = min(size, room)
            inside.append(Block(piece, block.state, block.category))
            size -= piece
            room -= piece
            if not room:
                yield _segment("large", 0, tuple(inside))
                inside, room = [], _SEGMENT_BYTES
    if inside:
        yield _segment("large", 0, tuple(inside))


def _segment(pool: str, stream: int, blocks: tuple[Block, ...]) -> Segment:
    total = sum(block.size_bytes for block in blocks)
    return Segment(total, pool, stream, expandable=False, blocks=blocks)


def _whole(size: float) -> int:
    return int(size) // _GRAIN * _GRAIN
