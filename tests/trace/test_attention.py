"""Attention on fake CPU tensors allocates what CUDA's kernels do, in their order."""

import sys

import pytest
import torch
from torch.nn import functional

from tests.trace.storages import faked, traced
from vramtop.errors import UsageError
from vramtop.trace.attention import (
    FLASH_IMPLEMENTATION,
    flash_attention_forward,
    register_flash,
)

B, H, S, D = 2, 4, 100, 64
HALF, SINGLE, BOOL, BYTES = torch.bfloat16, torch.float32, torch.bool, torch.uint8
FLASH = "_scaled_dot_product_flash_attention"
EFFICIENT = "_scaled_dot_product_efficient_attention"
CUDNN = "_scaled_dot_product_cudnn_attention"


def _projected(heads=H, length=S, dim=D, dtype=HALF):
    """As a linear layer leaves it: (batch, sequence, heads, dim), seen with heads first."""
    rows = torch.empty(B, length, heads, dim, dtype=dtype, requires_grad=True)
    return rows.transpose(1, 2)


def _step(capability=(8, 0), heads=H, dtype=HALF, mask=None, **options):
    """(what the forward made, what the backward made, the output's strides, q's strides)."""

    def act(storages):
        query, key, value = (_projected(each, dtype=dtype) for each in (H, heads, heads))
        bias = None if mask is None else mask()
        storages.take()
        out = functional.scaled_dot_product_attention(
            query, key, value, bias, enable_gqa=heads != H, **options
        )
        grad = torch.empty_like(out)
        forward = storages.take()[:-1]
        out.backward(grad)
        return forward, storages.take(), out.stride(), query.stride()

    return traced(act, capability)


def test_flash():
    forward, backward, strides, of_query = _step(is_causal=True)
    assert forward == [(FLASH, (B, H, S, D), HALF), (FLASH, (B, H, S), SINGLE)]
    # A head's rows lie apart as in the query, so that (B, S, H·D) is a view of the output.
    assert strides == of_query
    gradients = [(FLASH + "_backward", (B, H, S, D), HALF)] * 3
    buffers = [
        ("empty.memory_format", (B * H * 128,), SINGLE),
        ("empty.memory_format", (B * H * 128 * 64,), SINGLE),
    ]
    assert backward == gradients + buffers


def test_flash_with_grouped_queries():
    forward, backward, _, _ = _step(is_causal=True, heads=2)
    assert forward == [(FLASH, (B, H, S, D), HALF), (FLASH, (B, H, S), SINGLE)]
    assert backward == [
        (FLASH + "_backward", (B, H, S, D), HALF),
        (FLASH + "_backward", (B, 2, S, D), HALF),
        (FLASH + "_backward", (B, 2, S, D), HALF),
        ("empty.memory_format", (B * H * 128,), SINGLE),
        ("empty.memory_format", (B * H * 128 * 64,), SINGLE),
        ("empty.memory_format", (B * S * H * D,), HALF),
        ("empty.memory_format", (B * S * H * D,), HALF),
    ]


def test_flash_pads_heads_to_eight():
    def act(storages):
        query, key, value = (_projected(dim=20) for _ in range(3))
        storages.take()
        out = functional.scaled_dot_product_attention(query, key, value)
        return storages.take(), out.shape

    made, shape = traced(act)
    assert [shape for name, shape, _ in made if name == "constant_pad_nd"] == [(B, H, S, 24)] * 3
    assert made[3:] == [(FLASH, (B, H, S, 24), HALF), (FLASH, (B, H, S), SINGLE)]
    assert shape == (B, H, S, 20)


def test_a_gradient_of_another_layout_is_copied():
    def act(storages):
        out = functional.scaled_dot_product_attention(*(_projected() for _ in range(3)))
        grad = torch.empty(B, H, S, D, dtype=HALF)
        storages.take()
        out.backward(grad)
        return storages.take()

    assert traced(act)[0] == ("clone", (B, S, H, D), HALF)


def test_efficient():
    forward, backward, strides, of_query = _step((7, 5), dtype=torch.float16, is_causal=True)
    # The logsumexp is padded to 32 rows.
    assert forward == [(EFFICIENT, (B, H, S, D), torch.float16), (EFFICIENT, (B, H, 128), SINGLE)]
    assert strides == of_query
    assert backward == [
        *[(EFFICIENT + "_backward", (B, H, S, D), torch.float16)] * 3,
        ("empty.memory_format", (B * H * S,), SINGLE),
        ("empty.memory_format", (B * H * 2 * (16 + 64 * 64 * 4),), BYTES),
    ]


def test_efficient_in_fp32_multiplies_output_and_gradient():
    forward, backward, _, _ = _step(dtype=SINGLE)
    assert forward == [(EFFICIENT, (B, H, S, D), SINGLE), (EFFICIENT, (B, H, 128), SINGLE)]
    assert [shape for _, shape, _ in backward[3:]] == [
        (B * H * S * D,),
        (B * H * S,),
        (B * H * S,),
        (B * H * 2 * (16 + 64 * 64 * 4),),
    ]


def test_no_logsumexp_without_gradients():
    def act(storages):
        query, key, value = (_projected(dtype=SINGLE) for _ in range(3))
        storages.take()
        with torch.no_grad():
            functional.scaled_dot_product_attention(query, key, value)
        return storages.take()

    assert traced(act) == [(EFFICIENT, (B, H, S, D), SINGLE)]


def test_a_mask_of_truths_becomes_numbers_in_padded_rows():
    def mask():
        return torch.ones(B, 1, S, S, dtype=torch.bool)

    forward, _, _, _ = _step(mask=mask)
    assert forward == [
        ("zeros_like", (B, 1, S, S), HALF),
        ("logical_not", (B, 1, S, S), BOOL),
        # 100 keys: rows of 112, and each head gets its own.
        ("constant_pad_nd", (B, H, S, 112), HALF),
        (EFFICIENT, (B, H, S, D), HALF),
        (EFFICIENT, (B, H, 128), SINGLE),
    ]


def test_cudnn_on_hopper():
    forward, backward, strides, of_query = _step((9, 0), is_causal=True)
    assert forward == [(CUDNN, (B, H, S, D), HALF), (CUDNN, (B, H, S, 1), SINGLE)]
    assert strides == of_query
    assert backward[:3] == [(CUDNN + "_backward", (B, H, S, D), HALF)] * 3


def test_math_in_fp32():
    forward, _, _, _ = _step((7, 5), heads=2, is_causal=True)
    scores = [made for made in forward if made[1][-2:] == (S, S) and len(made[1]) >= 3]
    # Scores, weights, which of the scores are minus infinity, and the weights cast for nobody.
    assert [dtype for _, _, dtype in scores] == [SINGLE, SINGLE, BOOL, HALF]
    assert forward[-2] == ("_to_copy", (B, H, S, D), HALF)


def test_math_keeps_the_weights_alone():
    def act(storages):
        query, key, value = (_projected(dtype=SINGLE, dim=18) for _ in range(3))
        before = storages.live_bytes
        out = functional.scaled_dot_product_attention(query, key, value)
        return storages.live_bytes - before, out.shape

    live, _ = traced(act)
    # Scaled query and key, the value (a view or a copy of it), the output, and one S x S in fp32.
    assert live - B * H * S * S * 4 in {B * H * S * 18 * 4 * n for n in (3, 4)}


class _Module(torch.nn.Module):
    is_causal = True

    def __init__(self, dtype):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(8, 8, dtype=dtype))


def test_flash_of_transformers():
    def act(storages):
        module = _Module(HALF)
        query, key, value = _projected(dtype=SINGLE), _projected(2), _projected(2)
        storages.take()
        out, weights = flash_attention_forward(module, query, key.float(), value.float(), None)
        assert weights is None
        return [made for made in storages.take() if made[0] == FLASH], out

    made, out = traced(act)
    assert made == [(FLASH, (B, H, S, D), HALF), (FLASH, (B, H, S), SINGLE)]
    assert out.shape == (B, S, H, D)
    assert out.is_contiguous()


def test_a_model_by_the_name_of_the_implementation():
    import transformers

    register_flash()
    config = transformers.AutoConfig.for_model(
        "qwen2",
        hidden_size=64,
        intermediate_size=128,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=2,
        vocab_size=100,
    )
    model = transformers.AutoModelForCausalLM.from_config(
        config, dtype=HALF, attn_implementation=FLASH_IMPLEMENTATION
    )

    def act(storages):
        faked(model)
        ids = torch.zeros(B, 32, dtype=torch.long)
        model(input_ids=ids, labels=ids, attention_mask=torch.ones_like(ids)).loss.backward()
        return [(shape, dtype) for op, shape, dtype in storages.take() if op == FLASH]

    # The output and its logsumexp, once a layer.
    assert traced(act) == [((B, 4, 32, 16), HALF), ((B, 4, 32), SINGLE)] * 2
    assert "flash_attn" not in sys.modules


def test_flash_of_transformers_wants_half_precision():
    def act(_storages):
        query = _projected(dtype=SINGLE)
        flash_attention_forward(_Module(SINGLE), query, query, query, None)

    with pytest.raises(UsageError, match="fp16, bf16 or amp"):
        traced(act)
