"""The precisions, optimizers and adapters that are tried, from the wanted ones downward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..workload import QUANTIZED, Workload
from .values import Arithmetic, Wish

_PURE: Final = {"amp-bf16": "bf16", "fp32": "bf16"}
"""Weights themselves in half precision: half the memory, updates below 2⁻⁸ of a weight are lost."""
_AUTOCAST: Final = {"fp32": "amp-bf16"}
_EIGHT_BIT: Final = {"adamw": "adamw-8bit", "adam": "adam-8bit", "lion": "lion-8bit"}
_AUTOCAST_COST, _EIGHT_BIT_COST, _PURE_COST, _LORA_COST = 1, 2, 4, 8
_INT8_COST, _NF4_COST = 16, 32


def arithmetics(wish: Wish) -> tuple[Arithmetic, ...]:
    """What is tried, the wanted arithmetic first; fields that the user holds stay."""
    return tuple(sorted(_tried(wish), key=lambda one: one.severity))


def _tried(wish: Wish) -> Iterator[Arithmetic]:
    base = wish.workload
    if base.lora is not None or base.precision in QUANTIZED:
        # Adapters are what is wanted: only their base may still change.
        yield from _with_lora(wish, Arithmetic(base.precision, base.optimizer, base.lora))
        return
    for precision in _precisions(base, wish.held):
        yield from _optimizers(precision, wish.held)
    if "lora" in wish.held:
        return
    half = _PURE.get(base.precision, base.precision)
    start = Arithmetic(
        half if "precision" not in wish.held else base.precision,
        base.optimizer,
        wish.lora,
        (f"LoRA of rank {wish.lora.rank}: only adapters are trained",),
        _LORA_COST,
    )
    yield from _with_lora(wish, start)


def _precisions(base: Workload, held: frozenset[str]) -> Iterator[Arithmetic]:
    yield Arithmetic(base.precision, base.optimizer, None)
    if "precision" in held:
        return
    if autocast := _AUTOCAST.get(base.precision):
        yield Arithmetic(
            autocast,
            base.optimizer,
            None,
            ("bf16 autocast in place of fp32 arithmetic",),
            _AUTOCAST_COST,
        )
    if pure := _PURE.get(base.precision):
        words = (f"weights, gradients and states in {pure} in place of fp32",)
        yield Arithmetic(pure, base.optimizer, None, words, _PURE_COST)


def _optimizers(start: Arithmetic, held: frozenset[str]) -> Iterator[Arithmetic]:
    yield start
    if "optimizer" not in held and (eight := _EIGHT_BIT.get(start.optimizer)):
        words = (*start.departures, f"optimizer states in 8 bit ({eight})")
        yield Arithmetic(start.precision, eight, None, words, start.severity + _EIGHT_BIT_COST)


def _with_lora(wish: Wish, start: Arithmetic) -> Iterator[Arithmetic]:
    yield start
    if "precision" in wish.held or start.precision in QUANTIZED:
        return
    for precision, cost in (("int8", _INT8_COST), ("nf4", _NF4_COST)):
        words = (*start.departures, f"frozen weights quantised to {precision}")
        yield Arithmetic(precision, start.optimizer, start.lora, words, start.severity + cost)
