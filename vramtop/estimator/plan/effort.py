"""How much of a step's arithmetic checkpointing makes again, in multiplications of matrices.

Forward of one token: 2 operations a weight of the layers and the head, and 4·s·a·d a layer for
the scores and their product with the values (Narayanan et al. 2021, appendix; Korthikanti et al.
2022, section 5). Backward is twice that; with frozen weights once, since none has a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..workload import Workload


@dataclass(frozen=True, slots=True)
class Effort:
    """Weights that a token is multiplied with, and the attention that it takes part in."""

    layer_weights: int
    """In all layers together; of experts those that a token visits."""
    head_weights: int
    attention_width: int
    """Heads · head dimension, summed over the layers."""

    def forward(self, sequence: int) -> float:
        """Operations of a token's forward."""
        return 2 * (self.layer_weights + self.head_weights) + self._attention(sequence)

    def recomputation(self, workload: Workload) -> float:
        """What checkpointing makes again, over a step without it.

        Full checkpointing makes the layers' forward again, selective their attention.
        """
        if workload.checkpointing == "none":
            return 0.0
        attention = self._attention(workload.sequence)
        again = attention
        if workload.checkpointing == "full":
            again += 2 * self.layer_weights
        backward = 1 if workload.lora is not None else 2
        return again / ((1 + backward) * self.forward(workload.sequence))

    def _attention(self, sequence: int) -> float:
        return 4 * sequence * self.attention_width
