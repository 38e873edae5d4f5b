"""Text 1's ``will_it_fit``: the sum of its formulas, compared with a card in GB of 10⁹."""

from __future__ import annotations

from dataclasses import dataclass

from .activations import sample_bytes
from .kv_cache import cache_bytes
from .optimizer import state_bytes
from .values import GB, Shape
from .weights import bytes_per_parameter, gradient_bytes, weight_bytes


@dataclass(frozen=True, slots=True)
class Fit:
    """What the function adds up, bytes."""

    parameter_bytes: float
    optimizer_bytes: float
    gradient_bytes: float
    activation_bytes: float
    kv_cache_bytes: float

    @property
    def total_bytes(self) -> float:
        """Everything at once, though the parts are never all there together."""
        return (
            self.parameter_bytes
            + self.optimizer_bytes
            + self.gradient_bytes
            + self.activation_bytes
            + self.kv_cache_bytes
        )

    def fits(self, vram_gb: float) -> bool:
        """Whether the total is at most ``vram_gb`` · 10⁹ bytes, the whole card."""
        return self.total_bytes <= vram_gb * GB


def will_it_fit(
    shape: Shape,
    *,
    precision: str = "fp16",
    training: bool = True,
    optimizer: str = "adam",
    batch: int = 1,
    sequence: int = 2048,
) -> Fit:
    """Text 1's function with its defaults; it takes hidden 4096 and 32 layers unless told."""
    width = bytes_per_parameter(precision)
    parameters = shape.parameters
    return Fit(
        parameter_bytes=weight_bytes(parameters, precision),
        optimizer_bytes=state_bytes(parameters, optimizer) if training else 0.0,
        gradient_bytes=gradient_bytes(parameters, precision) if training else 0.0,
        activation_bytes=sample_bytes(shape, sequence, width) * batch if training else 0.0,
        kv_cache_bytes=0.0 if training else cache_bytes(shape, batch, sequence, width),
    )
