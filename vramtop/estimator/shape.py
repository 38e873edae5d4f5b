"""A model's architecture in numbers, from its transformers configuration: for the closed form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Config = Mapping[str, Any]
"""Arguments of a transformers config class."""
NormKind = Literal["llama", "t5", "gemma", "layer"]
"""``llama``, ``t5`` and ``gemma``: RMS norms that compute in fp32, of which Gemma's multiplies with
its weights before the cast back; ``layer``: torch's layer_norm."""
BlockKind = Literal["pre", "post", "reordered", "sandwich", "parallel", "parallel-2"]
"""Where the norms of a layer are: before each part, after each residual sum (BERT), after each
part (OLMo 2), on both sides (Gemma 2), once for both parts side by side (GPT-J, Phi), once each
(NeoX)."""


@dataclass(frozen=True, slots=True)
class Names:
    """Module names of the linear layers, as PEFT's targets are written."""

    q: str = "q_proj"
    k: str = "k_proj"
    v: str = "v_proj"
    qkv: str = ""
    """Not empty where one matrix makes all three."""
    o: str = "o_proj"
    gate: str = "gate_proj"
    up: str = "up_proj"
    gate_up: str = ""
    """Not empty where one matrix makes both."""
    down: str = "down_proj"
    default_targets: tuple[str, ...] = ("q_proj", "v_proj")
    """PEFT 0.21's TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING."""


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts in place of the feed-forward part."""

    count: int
    per_token: int
    ffn: int
    shared_ffn: int = 0
    """Of the experts that all tokens pass; 0 without."""
    dense_layers: int = 0
    """Layers before the first that has experts."""
    correction_bias: bool = False


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention of DeepSeek: ranks of the compressions, head sizes."""

    q_rank: int
    kv_rank: int
    nope: int
    rope: int
    value: int


@dataclass(frozen=True, slots=True)
class Image:
    """What a vision transformer reads."""

    size: int
    patch: int
    channels: int

    @property
    def tokens(self) -> int:
        """Patches and the class token."""
        return (self.size // self.patch) ** 2 + 1


@dataclass(frozen=True, slots=True)
class Shape:
    """All that the closed form knows of an architecture; sizes in elements."""

    model_type: str
    auto_class: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    names: Names = Names()
    block: BlockKind = "pre"
    norm: NormKind = "llama"
    gated: bool = True
    activation: str = "silu"
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: Literal["", "head", "whole"] = ""
    rope: bool = True
    rope_concatenates: bool = False
    """Rotated and other parts of a head are joined: queries then lie head by head in memory, the
    output of flash attention like them, and it is copied for the next linear layer."""
    broadcast_heads: bool = False
    """SDPA is given fewer key heads than query heads (Falcon): no fused kernel takes them."""
    qkv_copied: bool = False
    """The parts of a fused projection are copied out of it (else they are views that keep it)."""
    softmax_fp32: bool = True
    """Eager attention takes its softmax in fp32."""
    products_fp32: bool = False
    """Eager attention multiplies queries and keys in fp32 (GPT-J, GPT-Neo)."""
    attention_softcap: bool = False
    logit_softcap: bool = False
    scaled_embedding: bool = False
    positions: int = 0
    """Rows of a table of learned positions."""
    token_types: int = 0
    embedding_norm: bool = False
    embedding_width: int = 0
    """Of the token embedding where it is not the hidden size (OPT-350m)."""
    final_norm: bool = True
    tied: bool = False
    head_bias: bool = False
    head_transform: bool = False
    """A dense layer, GELU and a norm before the head (masked language models)."""
    pooler: bool = False
    labels: int = 2
    max_sequence: int = 0
    window: int = 0
    """Positions that a sliding layer sees; 0 without."""
    sliding_layers: int = 0
    embedding_dropout: float = 0.0
    residual_dropout: float = 0.0
    attention_dropout: float = 0.0
    mlp_dropout: float = 0.0
    """Between the two matrices of the feed-forward part (T5)."""
    experts: Experts | None = None
    latent: Latent | None = None
    image: Image | None = None
    encoder_layers: int = 0
    """Of an encoder-decoder; ``layers`` are then the decoder's."""
    position_buckets: int = 0
    """Rows of T5's tables of relative positions."""
    eager_only: bool = False

    @classmethod
    def from_config(cls, config: Config, auto_class: str) -> Shape:
        """The shape of a transformers configuration.

        Raises:
            UsageError: no formulas for this model_type, or a needed number is missing.
        """
        from .families import shape_of

        return shape_of(config, auto_class)


Family = Callable[[Config], Shape]
"""What makes the shape of one model family; ``model_type`` and ``auto_class`` are left empty."""
