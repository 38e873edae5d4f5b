"""The part of a model that one tensor-, expert- or pipeline-parallel rank holds.

The configuration is made smaller, so that the real modules, traced, have the shapes of a rank:
heads, the inner width of the MLP, vocabulary and experts are divided (Megatron-LM, arXiv
1909.08053, section 3); the residual stream keeps its width.
"""

from __future__ import annotations

from typing import Any

from ..errors import UsageError
from ..estimator.workload import Workload

_HEADS = ("num_attention_heads",)
_INNER = ("intermediate_size", "moe_intermediate_size", "n_inner", "ffn_dim", "d_ff")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


def rank_config(config: Any, workload: Workload) -> Any:
    """The configuration of one rank, the same object changed in place.

    Raises:
        UsageError: the model's heads have no size of their own to keep.
    """
    parallel = workload.parallel
    if parallel.pipeline > 1:
        config.num_hidden_layers //= parallel.pipeline
    if parallel.tensor > 1:
        _split(config, parallel.tensor)
    if parallel.expert > 1:
        for name in _EXPERTS:
            count = getattr(config, name, None)
            if count:
                setattr(config, name, max(count // parallel.expert, 1))
                break
    return config


def _split(config: Any, degree: int) -> None:
    if not hasattr(config, "head_dim"):
        raise UsageError(
            f"tensor parallelism of {config.model_type} cannot be traced, as its heads take their "
            "size from the hidden size; use --method closed-form"
        )
    if config.head_dim is None:
        config.head_dim = config.hidden_size // config.num_attention_heads
    config.num_attention_heads //= degree
    heads = getattr(config, "num_key_value_heads", None)
    if heads:
        # Fewer key-value heads than ranks are copied, one to each.
        config.num_key_value_heads = max(heads // degree, 1)
    for name in _INNER:
        width = getattr(config, name, None)
        if width:
            setattr(config, name, width // degree)
    config.vocab_size = -(-config.vocab_size // degree)
