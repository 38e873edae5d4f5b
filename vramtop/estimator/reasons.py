"""Why a process holds more than was predicted: what its own figures speak for, never a guess."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from ..core.breakdowns import category_label
from ..core.memory import Phase
from ..core.model import Probe, ProbeDevice
from ..core.units import format_bytes, format_delta
from .expected import Expected

if TYPE_CHECKING:
    from .comparison import Moment, Pair

Kind = Literal[
    "optimizer-fp32",
    "outputs-kept",
    "eager-attention",
    "gradients-kept",
    "fragmentation",
    "other",
]
_SIXTEEN_BITS: Final = ("bfloat16", "float16")
_LOGITS_RANGE: Final = (0.9, 1.6)
"""Activations left behind that are so many times the logits are taken for them: with them go the
loss, and hidden states where they are asked for, but no graph."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A likely reason for more, or less, than was predicted."""

    kind: Kind
    category: str
    text: str
    """One line: "logits kept alive: `outputs` still referenced (8.00 MiB) …"."""
    bytes: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a reason may be drawn from."""

    probe: Probe
    part: ProbeDevice
    expected: Expected
    moments: Mapping[str, Moment]
    parted: tuple[Pair, ...]
    slack_bytes: int
    """What may differ without a reason."""

    def excess(self, category: str, *names: str) -> int:
        """Bytes beyond the predicted at the first of these moments that is known; 0 where none."""
        for name in names:
            if name in self.moments:
                pair = self.moments[name].pair(category)
                return (pair.delta_bytes or 0) if pair else 0
        return 0


def explain(evidence: Evidence) -> tuple[Reason, ...]:
    """The likely reasons, the largest first; for what has none, that none is known.

    A reason needs half of what may differ without one: two may make a difference together.
    """
    found = [
        reason
        for find in _FINDERS
        for reason in find(evidence)
        if abs(reason.bytes) > evidence.slack_bytes / 2
    ]
    explained = {reason.category for reason in found}
    for pair in evidence.parted:
        of_total = pair.category == "total" and (explained or len(evidence.parted) > 1)
        if pair.category not in explained and not of_total:
            found.append(_unknown(pair, evidence))
    return tuple(sorted(found, key=lambda reason: -abs(reason.bytes)))


def _unknown(pair: Pair, evidence: Evidence) -> Reason:
    label = (
        "peak" if pair.category == "total" else category_label(pair.category, evidence.part.device)
    )
    delta = pair.delta_bytes or 0
    return Reason("other", pair.category, f"{label} {format_delta(delta)}: no known reason", delta)


def _optimizer_state(evidence: Evidence) -> Iterator[Reason]:
    parameters, state = [0, 0], [0, 0]
    """Elements in 16 bits, and in all."""
    for model in evidence.probe.models:
        for dtype, count in model.parameters_by_dtype.items():
            parameters[0] += count * (dtype in _SIXTEEN_BITS)
            parameters[1] += count
    for optimizer in evidence.probe.optimizers:
        for dtype, count in optimizer.state_by_dtype.items():
            state[0] += count * (dtype == "float32")
            state[1] += count
    excess = evidence.excess("optimizer_state", "step", "forward", "backward", "zero_grad")
    if excess > 0 and 2 * parameters[0] > parameters[1] and 2 * state[0] > state[1]:
        dtype = _most(evidence)
        yield Reason(
            "optimizer-fp32",
            "optimizer_state",
            f"optimizer state is fp32 although parameters are {dtype} ({format_delta(excess)}); "
            f"make the optimizer after the model is {dtype}",
            excess,
        )


def _most(evidence: Evidence) -> str:
    counts: dict[str, int] = {}
    for model in evidence.probe.models:
        for dtype in _SIXTEEN_BITS:
            counts[dtype] = counts.get(dtype, 0) + model.parameters_by_dtype.get(dtype, 0)
    return "bf16" if counts["bfloat16"] >= counts["float16"] else "fp16"


def _kept(evidence: Evidence) -> int:
    """Activations that outlive the graph, beyond those predicted to."""
    return evidence.excess("activation", "step", "backward", "zero_grad")


def _outputs(evidence: Evidence) -> Iterator[Reason]:
    kept, logits = _kept(evidence), evidence.expected.logits_bytes
    if kept <= 0:
        return
    phase = next((p for p in ("step", "backward", "zero_grad") if p in evidence.moments), "")
    # Keys and values of outputs.past_key_values are kept by the same name.
    caches = [
        p.after.kv_cache_bytes for p in _detail_phases(evidence) if p.name == phase and p.after
    ]
    rest = kept - sum(caches[-1:])
    low, high = _LOGITS_RANGE
    if logits and low * logits <= rest <= high * logits:
        yield Reason(
            "outputs-kept",
            "activation",
            f"logits kept alive: `outputs` still referenced ({format_bytes(kept)}); "
            "`del outputs` once the loss is taken",
            kept,
        )
    else:
        yield Reason(
            "other",
            "activation",
            f"activations outlive backward ({format_bytes(kept)}): something made in forward is "
            "still referenced",
            kept,
        )


def _attention(evidence: Evidence) -> Iterator[Reason]:
    if not any(model.attention == "eager" for model in evidence.probe.models):
        return
    for name in ("forward", "peak"):
        pair = evidence.moments[name].pair("activation") if name in evidence.moments else None
        if pair is None or not pair.predicted_bytes or pair.actual_bytes is None:
            continue
        excess = pair.actual_bytes - pair.predicted_bytes - max(_kept(evidence), 0)
        if excess > evidence.slack_bytes / 2:
            times = 1 + excess / pair.predicted_bytes
            yield Reason(
                "eager-attention",
                "activation",
                f"activations {times:.1f}×: attention is eager ({format_delta(excess)}); "
                'load the model with attn_implementation="sdpa"',
                excess,
            )
            return


def _checkpointing(evidence: Evidence) -> Iterator[Reason]:
    """Layers of transformers do so in training mode only (modeling_layers.py, its __call__)."""
    idle = [m for m in evidence.probe.models if m.checkpointing and m.training is False]
    excess = evidence.excess("activation", "forward")
    if idle and excess > 0:
        yield Reason(
            "other",
            "activation",
            f"gradient checkpointing is on but the model is in eval mode ({format_delta(excess)}): "
            "call model.train()",
            excess,
        )


def _gradients(evidence: Evidence) -> Iterator[Reason]:
    """The probe tells of a zero_grad also where it sets gradients to zero and releases none."""
    is_called = any(phase.name == "zero_grad" for phase in _detail_phases(evidence))
    moment = evidence.moments.get("zero_grad" if is_called else "forward")
    pair = moment.pair("gradient") if moment else None
    if pair is None or pair.predicted_bytes or not pair.actual_bytes:
        return
    held = format_bytes(pair.actual_bytes)
    if is_called:
        yield Reason(
            "gradients-kept",
            "gradient",
            f"gradients not released: zero_grad(set_to_none=False) ({held}); "
            "zero_grad() without it frees them",
            pair.actual_bytes,
        )
    else:
        yield Reason(
            "other",
            "gradient",
            f"gradients live through forward ({held}): no zero_grad was seen in the sampled step",
            pair.actual_bytes,
        )


def _cached(evidence: Evidence) -> Iterator[Reason]:
    """Beyond all that was ever allocated it is fragmentation; else an earlier moment had more."""
    allocator, expected = evidence.part.allocator, evidence.expected
    peak, breakdown = evidence.moments.get("peak"), evidence.part.breakdown
    if not any(pair.category == "cached" for pair in evidence.parted):
        return
    if allocator is None or peak is None or breakdown is None:
        return
    # What is of no model or step is in the allocator's figures, not in a sampled step's.
    step_peak = (peak.total.actual_bytes or 0) + (breakdown.unknown_bytes or 0)
    highest = max(allocator.peak_allocated_bytes, step_peak)
    predicted = max((expected.reserved_bytes or 0) - expected.peak_bytes, 0)
    excess = allocator.reserved_bytes - highest - predicted
    if excess > 0:
        over = 100 * (allocator.reserved_bytes / highest - 1)
        yield Reason(
            "fragmentation",
            "cached",
            f"reserved {over:.0f} % over allocated: fragmentation ({format_delta(excess)}); "
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
            excess,
        )
    if highest - step_peak > evidence.slack_bytes:
        yield Reason(
            "other",
            "cached",
            f"an earlier moment held {format_bytes(highest)}, and the allocator keeps that; "
            "torch.cuda.empty_cache() after it gives it back",
            highest - step_peak,
        )


def _other_models(evidence: Evidence) -> Iterator[Reason]:
    excess = evidence.excess("parameter", "forward", "peak")
    others = evidence.probe.models[1:]
    if others and excess > 0:
        names = ", ".join(dict.fromkeys(model.class_name for model in others))
        yield Reason(
            "other",
            "parameter",
            f"another model is in this process: {names} ({format_delta(excess)})",
            excess,
        )


def _detail_phases(evidence: Evidence) -> tuple[Phase, ...]:
    return evidence.part.detail.phases if evidence.part.detail else ()


_FINDERS: Final[tuple[Callable[[Evidence], Iterator[Reason]], ...]] = (
    _optimizer_state,
    _outputs,
    _attention,
    _checkpointing,
    _gradients,
    _cached,
    _other_models,
)
"""To add a reason: one function, and its place here."""
