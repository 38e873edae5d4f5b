"""Where the bytes of the closed form go: one file a component, with its formula and source.

``moments`` adds up ``COMPONENTS`` by moment; logits, KV cache and what FSDP gathers, which depend
on the moment, have functions of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..sizes import Affine, Sizes
from .activations import (
    activation_bytes,
    backward_working_bytes,
    recomputed_bytes,
    working_bytes,
)
from .gradients import bucket_bytes, gradient_bytes
from .inputs import input_bytes
from .optimizer_state import optimizer_state_bytes
from .optimizer_transient import optimizer_transient_bytes
from .parameters import parameter_bytes
from .workspace import workspace_bytes

COMPONENTS: Final[tuple[tuple[str, Callable[[Sizes], Affine]], ...]] = (
    ("parameter", parameter_bytes),
    ("gradient", gradient_bytes),
    ("bucket", bucket_bytes),
    ("optimizer_state", optimizer_state_bytes),
    ("optimizer_transient", optimizer_transient_bytes),
    ("activation", activation_bytes),
    ("recomputed", recomputed_bytes),
    ("working", working_bytes),
    ("backward_working", backward_working_bytes),
    ("input", input_bytes),
    ("workspace", workspace_bytes),
)
