"""The moments of a step at which memory can be fullest, each as a sum of components.

A steady step: its forward finds optimizer states (and, where gradients are accumulated, those of
the micro-batches before), its backward turns activations into gradients, its optimizer allocates
for a moment. Peaks in between lie below one of these: both change layer by layer, linearly. What
data parallelism adds is DDP's ``bucket`` all the while, or what FSDP has at a moment (``sharded``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .components import COMPONENTS
from .components.activations import on_nodes_bytes
from .components.communication import sharded
from .components.gradients import embedding_gradient_bytes, head_gradient_bytes
from .components.kv_cache import (
    growing_bytes,
    kv_cache_bytes,
    passing_cache_bytes,
    training_cache_bytes,
    unshared_cache_bytes,
)
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
    logits, fsdp = logits_of(sizes), sharded(sizes)
    loaded = {"parameter": p["parameter"], "gradient": p["bucket"]}
    lasting = {
        **loaded,
        "optimizer_state": p["optimizer_state"],
        "workspace": p["workspace"],
        "input": p["input"],
    }
    accumulates = sizes.workload.grad_accumulation > 1 or sizes.alternates()
    # What the micro-batches before have left; where there are none, forward starts without.
    forward = _plus(lasting, {"gradient": p["gradient"]}) if accumulates else lasting
    kept = logits.kept + unshared_cache_bytes(sizes)
    whole = p["activation"] + logits.saved + unshared_cache_bytes(sizes)
    layers = sum(part.count for part in sizes.layers) * sizes.in_flight()
    one = Affine(0.0, p["activation"].slope / max(layers, 1.0))
    replayed = p["recomputed"]
    table, head = (
        Affine(0.0 if fsdp else size)
        for size in (embedding_gradient_bytes(sizes), head_gradient_bytes(sizes))
    )
    # The loop's variables still have the last step's outputs and, as its loss, its graph.
    outputs = logits.kept + training_cache_bytes(sizes)
    if sizes.workload.stack != "hf-trainer":
        outputs = outputs + on_nodes_bytes(sizes)
    end = _plus(lasting, {"gradient": p["gradient"], "activation": outputs})
    head_saved = Affine(0.0, -sizes.tokens * sizes.head.count * sizes.head.saved)
    last_layer = {
        "gradient": Affine() if accumulates else head,
        "activation": p["activation"] + head_saved + kept + replayed,
        "autograd_detail": p["backward_working"],
    }
    passing = passing_cache_bytes(sizes)
    loss = {"activation": whole + logits.forward_extra + outputs + passing}
    working = {"activation": p["activation"] + outputs + p["working"] + passing}
    first_layer = {
        "gradient": p["gradient"] + table * -1,
        "activation": one + outputs + replayed,
        "autograd_detail": p["backward_working"],
    }
    tied = {"autograd_detail": table if sizes.shape.tied else Affine()}
    found = [
        Moment("load", "", loaded, after=True),
        Moment("forward", "last layer", _plus(forward, working, fsdp.get("layer"))),
        Moment("forward", "loss", _plus(forward, loss, fsdp.get("head"))),
        Moment(
            "forward", "", _plus(forward, {"activation": whole}, fsdp.get("forward")), after=True
        ),
        Moment(
            "backward",
            "loss",
            _plus(
                forward,
                {"activation": whole, "autograd_detail": logits.backward_extra},
                fsdp.get("loss"),
            ),
        ),
        Moment("backward", "last layer", _plus(forward, last_layer, fsdp.get("last layer"))),
        Moment("backward", "first layer", _plus(lasting, first_layer, fsdp.get("first layer"))),
        Moment("backward", "embedding", _plus(end, tied, fsdp.get("embedding"))),
        Moment("backward", "", end, after=True),
        Moment("step", "optimizer", _plus(end, {"temporary": p["optimizer_transient"]})),
        Moment("step", "", end, after=True),
        Moment("zero_grad", "", end),
        Moment("zero_grad", "", _plus(lasting, {"activation": outputs}), after=True),
    ]
    if fsdp:
        gathering = {"activation": p["activation"] + outputs}
        # The last layer's gradients are being reduced while the next makes its own.
        reducing, reduced = {"activation": one * -1}, {"activation": one * -2}
        found += [
            Moment("forward", "last layer", _plus(forward, gathering, fsdp["gathering"])),
            Moment(
                "backward", "last layer", _plus(forward, last_layer, reducing, fsdp["reducing"])
            ),
            Moment("backward", "last layer", _plus(forward, last_layer, reduced, fsdp["reduced"])),
            Moment("backward", "embedding", _plus(end, fsdp["root"])),
        ]
    return tuple(found)


def _plus(sums: Sums, *more: Sums | None) -> Sums:
    """All of them together, component by component."""
    total = dict(sums)
    for other in more:
        for name, size in (other or {}).items():
            total[name] = total[name] + size if name in total else size
    return total


def _inference(sizes: Sizes, p: Mapping[str, Affine]) -> tuple[Moment, ...]:
    w = sizes.workload
    logits, fsdp = logits_of(sizes), sharded(sizes)
    weights = {"parameter": p["parameter"]}
    lasting = {**weights, "workspace": p["workspace"], "input": p["input"]}
    prompt = {**lasting, "kv_cache": kv_cache_bytes(sizes, sizes.tokens)}
    cast, in_layers = Affine(sizes.cast_bytes()), Affine(sizes.cast_bytes(head=False))
    last = Affine(0.0, sizes.tokens * sizes.shape.hidden * sizes.width)
    found = [
        Moment("load", "", weights, after=True),
        Moment(
            "forward",
            "layers",
            _plus(prompt, {"activation": p["working"] + in_layers}, fsdp.get("layer")),
        ),
        Moment("forward", "layers", _plus(prompt, fsdp.get("gathering"))),
        Moment(
            "forward",
            "head",
            _plus(
                prompt,
                {"activation": logits.saved + last + logits.forward_extra + cast},
                fsdp.get("head"),
            ),
        ),
        Moment(
            "forward",
            "",
            _plus(prompt, {"activation": logits.saved}, fsdp.get("forward")),
            after=True,
        ),
    ]
    if w.new_tokens:
        grown = {**lasting, "kv_cache": kv_cache_bytes(sizes, sizes.tokens + w.new_tokens)}
        more = growing_bytes(sizes, sizes.tokens + w.new_tokens) + logits.saved + cast
        found += [
            Moment("generate", "attention", _plus(grown, {"activation": more}, fsdp.get("layer"))),
            Moment("generate", "", _plus(grown, fsdp.get("forward")), after=True),
        ]
    return tuple(found)
