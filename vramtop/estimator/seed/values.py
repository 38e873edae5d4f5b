"""Values of the seed method: what a text says of a model, and tables with the true figures beside.

*Text 1* is the article "GPU Memory Benchmarks: Will This Model Fit?", *text 2* "How Much GPU Memory
Can One Model Use?". Their formulas are kept as they stand, wrong ones included. Text 1 counts in
GB of 10⁹ bytes, text 2 in GB of 1024³; here everything is bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from ..result import Footprint
from ..workload import Model, Workload

Unit = Literal["bytes", "count", "times"]
"""``count``: samples or the like; ``times``: a quotient."""
Truth = Callable[[Workload], Footprint | None]
"""The true footprint of a workload by a better method; None where it cannot be told."""

GB: Final = 1_000_000_000
"""Text 1's GB."""
GIB: Final = 1024**3
"""Text 2's "GB"."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The few numbers that the texts' formulas ask of a transformer."""

    parameters: float
    hidden: int
    layers: int
    heads: int


SEVEN_B: Final = Shape(parameters=7e9, hidden=4096, layers=32, heads=32)
"""Text 1's 7B model."""
THIRTEEN_B: Final = Shape(parameters=13e9, hidden=5120, layers=40, heads=40)
"""Text 1 gives its 13B model no shape; this is Llama-13B's."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a text three times: as printed, by the text's own formula, and true."""

    label: str
    printed: float | None = None
    """As the text's table or sentence has it; None where it prints none."""
    seed: float | None = None
    """As the text's formula gives it; None where it has none."""
    true: float | None = None
    unit: Unit = "bytes"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the texts."""

    name: str
    """Short and unique: waterfall, inference, …"""
    title: str
    text: Literal[1, 2]
    figures: tuple[Figure, ...]
    wrong: tuple[str, ...] = ()
    """Why the columns differ, a line each."""
    about: str = ""
    """What the true column is of."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a recipe of the texts, with what it saves on a named workload."""

    advice: str
    """The text's step in our words."""
    verdict: str
    """What is right or wrong with it, and the option of ``vramtop`` that does it."""
    before_bytes: int | None = None
    after_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """A decision tree or roadmap of the texts."""

    name: str
    title: str
    text: Literal[1, 2]
    steps: tuple[Step, ...]
    about: str = ""


def seven_b() -> Model:
    """The real model that stands for the texts' 7B: Llama-7B."""
    return _catalogued("llama-7b")


def thirteen_b() -> Model:
    """The real model that stands for text 1's 13B: Llama-13B."""
    return _catalogued("llama-13b")


def _catalogued(name: str) -> Model:
    from ..catalog import find_model

    model = find_model(name)
    assert model is not None, f"{name} is in the catalogue"
    return model


def process_bytes(truth: Truth, workload: Workload) -> int | None:
    """The process's total by the better method, None where it cannot be told."""
    footprint = truth(workload)
    return None if footprint is None else footprint.process_bytes


def component_bytes(truth: Truth, workload: Workload, name: str) -> int | None:
    """One of ``result.COMPONENTS`` by the better method."""
    footprint = truth(workload)
    return None if footprint is None else footprint.components[name]
