"""Quantised linears: stored bytes and the events of each pass, counted by hand from the sources."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from tests.trace.events import happenings, materialised
from vramtop.errors import UsageError
from vramtop.estimator.workload import Lora, Model, Workload
from vramtop.trace.build import build
from vramtop.trace.quantized import (
    Linear4bit,
    Linear8bitLt,
    LinearFp8,
    LinearInt4,
    Nested4bit,
    quantize,
)
from vramtop.trace.quantized_fp8 import Float8Linear

IN, OUT, ROWS = 256, 384, 6
WEIGHTS = IN * OUT
BF16, FP32 = torch.bfloat16, torch.float32
TINY = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "vocab_size": 500}
LLAMA = Model("llama", {"model_type": "llama", "num_hidden_layers": 2, **TINY})
QWEN = Model("qwen2", {"model_type": "qwen2", "num_hidden_layers": 2, **TINY})
GPT2 = Model(
    "gpt2", {"model_type": "gpt2", "n_layer": 2, "n_embd": 128, "n_head": 4, "vocab_size": 500}
)


def stored(module):
    return sum(t.numel() * t.itemsize for t in [*module.parameters(), *module.buffers()])


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (Linear4bit, WEIGHTS // 2 + 4 * WEIGHTS // 64 + 16 * 4),
        # As above with a byte a scale, an fp32 one for 256 of them, their mean, and a map of 256.
        (Nested4bit, WEIGHTS // 2 + WEIGHTS // 64 + 4 * WEIGHTS // 64 // 256 + 64 + 4 + 1024),
        (Linear8bitLt, WEIGHTS + 4 * OUT),
        # Two groups of 128: packed zeros and fp16 scales of each, and a group index a row.
        (LinearInt4, WEIGHTS // 2 + 2 * (OUT // 2) + 2 * OUT * 2 + IN * 4),
        (LinearFp8, WEIGHTS + 4 * OUT),
        (Float8Linear, WEIGHTS * 2),
    ],
)
def test_what_a_layer_stores(kind, wanted):
    assert stored(kind(IN, OUT, BF16)) == wanted


def test_weights_that_fill_no_last_block_have_one():
    assert stored(Linear4bit(10, 13, BF16)) == 65 + 4 * 3 + 64


def passes(kind, dtype, *, grad=True, shape=(2, 3, IN), compute=BF16):
    """((events, bytes left) of forward, (events, bytes left) of backward)."""

    def prepare():
        layer = materialised(kind(IN, OUT, compute))
        return layer, torch.empty(shape, dtype=dtype, requires_grad=grad)

    forward = happenings(prepare, lambda given: given[0](given[1]))
    if not grad:
        return forward, None

    def ready():
        layer, x = prepare()
        return layer, x, layer(x)

    def backward(given):
        given[2].backward(torch.empty_like(given[2]))

    return forward, happenings(ready, backward)


def test_nf4_makes_the_weight_twice_and_keeps_no_input():
    forward, backward = passes(Linear4bit, BF16)
    assert forward == ([WEIGHTS * 2, ROWS * OUT * 2, -WEIGHTS * 2], ROWS * OUT * 2)
    # The gradient that the test gives, the weight, and the input's gradient, which stays.
    given, made = ROWS * OUT * 2, ROWS * IN * 2
    assert sorted(backward[0]) == sorted([given, WEIGHTS * 2, made, -WEIGHTS * 2, -given])
    assert backward[1] == made


def test_double_quantisation_makes_the_scales_too():
    forward, backward = passes(Nested4bit, BF16)
    scales, weight, out = 4 * WEIGHTS // 64, WEIGHTS * 2, ROWS * OUT * 2
    assert sorted(forward[0]) == sorted([scales, scales, weight, out, -weight, -scales, -scales])
    given, made = ROWS * OUT * 2, ROWS * IN * 2
    assert backward[0] == [given, scales, weight, -scales, made, -weight, -given]


def test_double_quantised_weights_share_one_map():
    model = prepared(LLAMA, "nf4", double_quantization=True)
    assert len({id(b) for n, b in model.named_buffers() if n.endswith("nested_code")}) == 1


def test_nf4_casts_a_wide_input_there_and_back():
    (events, left), _ = passes(Linear4bit, FP32)
    narrow_in, narrow_out, wide_out = ROWS * IN * 2, ROWS * OUT * 2, ROWS * OUT * 4
    assert events == [
        narrow_in, WEIGHTS * 2, narrow_out, -WEIGHTS * 2, wide_out, -narrow_out, -narrow_in
    ]  # fmt: skip
    assert left == wide_out


def test_nf4_makes_no_weight_for_a_single_row():
    (events, _), _ = passes(Linear4bit, BF16, grad=False, shape=(1, 1, IN))
    assert events == [OUT * 2]


def test_int8_keeps_its_input_and_goes_by_way_of_int32():
    def prepare():
        layer = materialised(Linear8bitLt(IN, OUT, BF16))
        return layer, torch.empty(2, 3, IN, dtype=BF16, requires_grad=True)

    # Scales and int8 rows, then the search for outliers, and the product in three dtypes.
    rows, product = ROWS * IN, ROWS * OUT
    half, scales = rows * 2, ROWS * 4
    events, left = happenings(prepare, lambda given: given[0](given[1]))
    assert events == [
        half, scales, rows, half, rows, -half, IN, -IN, -rows, -half,
        product * 4, product * 2, product * 2, -product * 2, -product * 4, -rows, -scales,
    ]  # fmt: skip
    assert left == product * 2

    def input_dropped(given):
        layer, x = given
        doubled = x * 2
        return layer(doubled)

    _, kept = happenings(prepare, input_dropped)
    assert kept == product * 2 + half  # the doubled input lives in the graph


def test_int8_makes_the_weight_in_backward():
    _, (events, left) = passes(Linear8bitLt, BF16)
    given = ROWS * OUT * 2
    scales = OUT * 4
    # CB.to(copy), the scales in units of 1/127, and the input's gradient.
    assert sorted(events) == sorted(
        [given, WEIGHTS * 2, scales, -scales, ROWS * IN * 2, -WEIGHTS * 2, -given]
    )
    assert left == ROWS * IN * 2


def test_fp8_inference_copies_the_input_and_lora_the_weight():
    (events, left), _ = passes(LinearFp8, BF16, grad=False)
    assert events == [ROWS * IN, ROWS * 4, ROWS * OUT * 2, -ROWS * IN, -ROWS * 4]
    assert left == ROWS * OUT * 2
    (events, _), _ = passes(LinearFp8, BF16)
    assert WEIGHTS * 2 in events


def test_fp8_training_keeps_weights_and_inputs_as_they_are():
    (events, left), (back, grads) = passes(Float8Linear, BF16)
    assert [ROWS * IN, WEIGHTS] == [e for e in events if e > 4 and e != ROWS * OUT * 2]
    assert left == ROWS * OUT * 2
    assert grads == ROWS * IN * 2 + WEIGHTS * 2
    assert back.count(WEIGHTS) == 1
    assert back.count(ROWS * OUT) == 2


def prepared(model, precision, **options):
    options = {"lora": Lora(8), **options}
    workload = Workload(model, precision=precision, **options)
    made = build(workload).model
    quantize(made, workload)
    return made


def test_head_embeddings_and_norms_stay():
    model = prepared(LLAMA, "nf4", lora=None, mode="inference")
    kinds = {name: type(module) for name, module in model.named_modules()}
    assert kinds["lm_head"] is torch.nn.Linear
    assert kinds["model.layers.1.mlp.down_proj"] is Linear4bit
    wide = {name for name, p in model.named_parameters() if p.dtype == BF16}
    assert wide == {
        "model.embed_tokens.weight",
        "lm_head.weight",
        "model.norm.weight",
        *(f"model.layers.{i}.input_layernorm.weight" for i in range(2)),
        *(f"model.layers.{i}.post_attention_layernorm.weight" for i in range(2)),
    }


@pytest.mark.parametrize(
    ("precision", "rest"), [("nf4", FP32), ("int8", FP32), ("int4", BF16), ("fp8", BF16)]
)
def test_peft_prepares_the_rest_of_bitsandbytes_models(precision, rest):
    model = prepared(QWEN, precision)
    assert {p.dtype for n, p in model.named_parameters() if "_proj.weight" not in n} == {rest}
    # Not where another stack's recipe is followed, nor for inference.
    for options in ({"stack": "torchtune"}, {"lora": None, "mode": "inference"}):
        other = prepared(QWEN, precision, **options)
        assert {p.dtype for n, p in other.named_parameters() if "norm" in n} == {BF16}


def test_gpt2s_transposed_linears_are_taken_the_right_way_round():
    layer = prepared(GPT2, "nf4").transformer.h[0]
    assert (layer.attn.c_attn.in_features, layer.attn.c_attn.out_features) == (128, 384)
    assert layer.mlp.c_fc.bias.shape == (512,)


@pytest.mark.parametrize("precision", ["nf4", "int8", "int4"])
def test_frozen_weights_are_not_trained(precision):
    with pytest.raises(UsageError, match=f"{precision} weights cannot be trained; add --lora"):
        prepared(LLAMA, precision, lora=None)


def test_fp8_training_has_gradients_of_everything():
    model = prepared(LLAMA, "fp8", lora=None)
    assert all(p.requires_grad for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {BF16}
