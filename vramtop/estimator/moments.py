"""The moments of a step at which memory can be fullest, each as a sum of components.

A steady step: its forward finds optimizer states (and, where gradients are accumulated, those of
the micro-batches before), its backward turns activations into gradients, its optimizer allocates
for a moment. Peaks in between lie below one of these: both change layer by layer, linearly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .components import COMPONENTS
from .components.gradients import embedding_gradient_bytes
from .components.kv_cache import growing_bytes, kv_cache_bytes, training_cache_bytes
from .components.logits import logits_of
from .sizes import Affine, Sizes

Sums = Mapping[str, Affine]


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment: bytes by ``result.ALLOCATED_COMPONENTS``."""

    phase: str
    where: str
    components: Sums
    after: bool = False
    """Whether it is the end of its phase."""

    def total(self) -> Affine:
        """All of it."""
        return sum(self.components.values(), start=Affine())


def moments_of(sizes: Sizes) -> tuple[Moment, ...]:
    """In the order of a steady step."""
    parts = {name: formula(sizes) for name, formula in COMPONENTS}
    if sizes.workload.training:
        return _training(sizes, parts)
    return _inference(sizes, parts)


def _training(sizes: Sizes, p: Mapping[str, Affine]) -> tuple[Moment, ...]:
    w = sizes.workload
    logits = logits_of(sizes)
    weights, states = {"parameter": p["parameter"]}, {"optimizer_state": p["optimizer_state"]}
    lasting = {**weights, **states, "workspace": p["workspace"]}
    before = p["gradient"] if w.grad_accumulation > 1 else Affine()
    forward = {**lasting, "input": p["input"], "gradient": before}
    whole = p["activation"] + logits.saved
    layers = sum(part.count for part in sizes.layers) * sizes.in_flight()
    one = Affine(0.0, (p["activation"].slope / max(layers, 1.0)))
    replayed = p["recomputed"]
    last_gradient = Affine(embedding_gradient_bytes(sizes))
    if w.parallel.zero >= 2:
        last_gradient = last_gradient * (1 / w.parallel.shards)
    head_gradient = _head_gradient(sizes)
    communicated = p["gathered"] + p["reduced"]
    outputs = logits.kept + training_cache_bytes(sizes)
    held = {**lasting, "input": p["input"]}
    end = {**held, "gradient": p["gradient"], "activation": outputs}
    return (
        Moment("load", "", weights, after=True),
        Moment(
            "forward",
            "loss",
            {
                **forward,
                # The loop's variable still has the last step's outputs.
                "activation": whole + logits.forward_extra + outputs,
                "temporary": p["gathered"],
            },
        ),
        Moment(
            "forward",
            "last layer",
            {
                **forward,
                "activation": p["activation"] + logits.kept + p["working"],
                "temporary": p["gathered"],
            },
        ),
        Moment("forward", "", {**forward, "activation": whole}, after=True),
        Moment(
            "backward",
            "loss",
            {
                **forward,
                "activation": whole,
                "autograd_detail": logits.backward_extra,
                "temporary": p["gathered"],
            },
        ),
        Moment(
            "backward",
            "last layer",
            {
                **forward,
                "gradient": p["gradient"] if w.grad_accumulation > 1 else head_gradient,
                "activation": p["activation"] + logits.kept + replayed,
                "autograd_detail": p["working"],
                "temporary": communicated,
            },
        ),
        Moment(
            "backward",
            "first layer",
            {
                **held,
                "gradient": p["gradient"] + last_gradient * -1,
                "activation": one + logits.kept + replayed,
                "autograd_detail": p["working"],
                "temporary": communicated,
            },
        ),
        Moment(
            "backward",
            "embedding",
            {**end, "autograd_detail": last_gradient if sizes.shape.tied else Affine()},
        ),
        Moment("backward", "", end, after=True),
        Moment("step", "optimizer", {**end, "temporary": p["optimizer_transient"]}),
        Moment("step", "", end, after=True),
        Moment("zero_grad", "", end),
        Moment("zero_grad", "", {**held, "activation": outputs}, after=True),
    )


def _head_gradient(sizes: Sizes) -> Affine:
    elements = sizes.head.count * sizes.head.trained_elements(sizes)
    if sizes.shape.tied and sizes.workload.lora is None and sizes.head.count:
        elements += embedding_gradient_bytes(sizes) / sizes.width
    parallel = sizes.workload.parallel
    by = parallel.shards if parallel.zero >= 2 else 1
    return Affine(elements * sizes.trained_width / by)


def _inference(sizes: Sizes, p: Mapping[str, Affine]) -> tuple[Moment, ...]:
    w = sizes.workload
    logits = logits_of(sizes)
    weights = {"parameter": p["parameter"]}
    lasting = {**weights, "workspace": p["workspace"], "input": p["input"]}
    prompt = {**lasting, "kv_cache": kv_cache_bytes(sizes, sizes.tokens)}
    cast = Affine(sizes.cast_bytes())
    last = Affine(0.0, sizes.tokens * sizes.shape.hidden * sizes.width)
    found = [
        Moment("load", "", weights, after=True),
        Moment(
            "forward",
            "layers",
            {**prompt, "activation": p["working"] + cast, "temporary": p["gathered"]},
        ),
        Moment(
            "forward",
            "head",
            {**prompt, "activation": logits.saved + last + logits.forward_extra + cast},
        ),
        Moment("forward", "", {**prompt, "activation": logits.saved}, after=True),
    ]
    if w.new_tokens:
        grown = {**lasting, "kv_cache": kv_cache_bytes(sizes, sizes.tokens + w.new_tokens)}
        more = growing_bytes(sizes, sizes.tokens + w.new_tokens) + logits.saved + cast
        found += [
            Moment("generate", "attention", {**grown, "activation": more}),
            Moment("generate", "", grown, after=True),
        ]
    return tuple(found)
