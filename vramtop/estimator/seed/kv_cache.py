"""Seed formula of the KV cache: right for as many KV heads as query heads, and in its own dtype."""

from __future__ import annotations

from typing import Final

from .values import Shape

HEAD_DIM: Final = 128
"""Text 1 takes every head to have 128 dimensions."""


def token_bytes(layers: int, heads: int, head_dim: int, bytes_per_value: float) -> float:
    """Keys and values of one token, bytes: 2 · layers · heads · head_dim · bytes (text 1).

    Models with grouped queries keep their few KV heads, not ``heads``.
    """
    return 2 * layers * heads * head_dim * bytes_per_value


def cache_bytes(shape: Shape, batch: int, sequence: int, bytes_per_value: float) -> float:
    """The cache by ``will_it_fit``, bytes: heads = hidden // 128, bytes those of the *weights*.

    So int4 weights make a cache of 4 bits, which they do not.
    """
    heads = shape.hidden // HEAD_DIM
    return token_bytes(shape.layers, heads, HEAD_DIM, bytes_per_value) * batch * sequence
