"""Operators that the CPU runs otherwise than CUDA, and layers against counted coefficients."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from tests.trace.storages import Storages, faked, traced
from vramtop.estimator.workload import Model, Workload
from vramtop.trace.autocast import autocast
from vramtop.trace.cuda_paths import cuda_paths

HALF, FP16, SINGLE = torch.bfloat16, torch.float16, torch.float32


def test_dropout_keeps_a_byte_for_an_element():
    def act(storages):
        x = torch.empty(64, 64, dtype=HALF, requires_grad=True)
        storages.take()
        module = torch.nn.Dropout(0.1)
        module(x).sum().backward()
        made = storages.take()
        assert module.eval()(x) is x
        return made

    made = traced(act)
    assert made[:2] == [
        ("native_dropout", (64, 64), HALF),
        ("native_dropout", (64, 64), torch.bool),
    ]
    assert ("native_dropout_backward", (64, 64), HALF) in made


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_to_fp32_is_fused_from_fp16_alone(name):
    def act(storages):
        made = []
        for dtype in (FP16, HALF):
            x = torch.empty(64, 64, dtype=dtype, requires_grad=True)
            storages.take()
            getattr(functional, name)(x, -1, dtype=SINGLE).backward(torch.empty(64, 64))
            made.append([(op, kind) for op, _, kind in storages.take()])
        return made

    forward, backward = f"_{name}", f"_{name}_backward_data"
    gradient = ("empty.memory_format", SINGLE)
    assert traced(act) == [
        [(forward, SINGLE), gradient, (backward, FP16)],
        [("_to_copy", SINGLE), (forward, SINGLE), gradient, (backward, SINGLE), ("_to_copy", HALF)],
    ]


@pytest.mark.parametrize("dtype", [HALF, SINGLE])
@pytest.mark.parametrize("statistics", [1, 2], ids=["rms", "layer"])
def test_norms_keep_fp32_statistics(dtype, statistics):
    """Kept: the output, and one or two fp32 of each row."""

    def act(storages):
        x = torch.empty(4, 32, 64, dtype=dtype, requires_grad=True)
        weight = torch.empty(64, dtype=dtype, requires_grad=True)
        before = storages.live_bytes
        if statistics == 2:
            out = functional.layer_norm(x, (64,), weight, weight)
        else:
            out = functional.rms_norm(x, (64,), weight)
        kept = storages.live_bytes - before
        storages.take()
        out.backward(torch.empty_like(out))
        assert x.grad.dtype == weight.grad.dtype == dtype
        return kept - out.untyped_storage().nbytes(), [made[1] for made in storages.take()]

    kept, shapes = traced(act)
    assert kept == statistics * 4 * 32 * 4
    assert shapes[1:3] == [(4, 32, 64), (64,)]


def test_rms_norm_with_a_weight_of_another_dtype_is_not_fused():
    def act(storages):
        x, weight = torch.empty(4, 64, dtype=HALF), torch.empty(64)
        storages.take()
        functional.rms_norm(x, (64,), weight)
        return [op for op, _, _ in storages.take()]

    assert "pow.Tensor_Scalar" in traced(act)


def test_gradient_of_an_embedding():
    def act(storages):
        weight = torch.empty(5000, 16, dtype=HALF, requires_grad=True)
        indices = torch.zeros(4, 1000, dtype=torch.long)
        out = functional.embedding(indices, weight)
        grad = torch.empty_like(out)
        storages.take()
        out.backward(grad)
        return storages.take()

    made = traced(act)
    # A row in fp32 for each index, and one more for each ten of a sample.
    assert made[-1] == ("empty.memory_format", (4 * 1000 + 4 * 100, 16), SINGLE)
    assert ("embedding_dense_backward", (5000, 16), HALF) in made
    assert sum(shape[0] for _, shape, dtype in made if dtype == torch.long) == 5 * 4000 + 4400


def test_a_bias_is_added_in_place():
    def act(storages):
        module = torch.nn.Linear(64, 32)
        rows = torch.empty(8, 16, 64, requires_grad=True)
        storages.take()
        for tensor in (rows, rows.transpose(0, 1), rows[:, None], rows[0]):
            assert module(tensor).shape == (*tensor.shape[:-1], 32)
        made = [op for op, shape, _ in storages.take() if shape[-1] == 32]
        module(rows.transpose(0, 1)).sum().backward()
        assert rows.grad is not None
        return made

    assert traced(act) == ["addmm", "mm", "mm", "addmm"]


@pytest.mark.parametrize("gathered", [False, True])
def test_gradients_of_indexing_are_added_in_place(gathered):
    def act(storages):
        x = torch.empty(100, 64, requires_grad=True)
        rows = torch.zeros(10, dtype=torch.long)
        out = x.gather(0, rows[:, None].expand(10, 64)) if gathered else x[rows]
        grad = torch.empty_like(out)
        storages.take()
        out.backward(grad)
        made = [op for op, shape, _ in storages.take() if shape == (100, 64)]
        # Outside of a formula they return a copy, which has a gradient itself.
        copied = x.index_put((rows,), grad, True)
        again = x.scatter_add(0, rows[:, None].expand(10, 64), grad)
        (copied + again).sum().backward()
        assert copied is not x
        assert again is not x
        return made

    assert len(traced(act)) == 1


def test_nothing_stays_registered():
    with FakeTensorMode():
        with cuda_paths(Workload(Model("test"))):
            pass
        with Storages() as storages:
            functional.dropout(torch.empty(64, 64), 0.1)
    assert "native_dropout" not in [op for op, _, _ in storages.take()]


SEQUENCE, BATCH, HIDDEN, INNER, HEADS = 64, 2, 256, 688, 4
LLAMA = {
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "vocab_size": 512,
}


def _kept_by_a_layer(precision, attention="sdpa", *, dropout=None, grouped=HEADS):
    """Bytes that one more layer keeps after the forward, in units of sequence x batch x hidden."""
    kept = []
    for layers in (2, 3):
        import transformers

        config = transformers.AutoConfig.for_model(
            **{**LLAMA, "num_hidden_layers": layers, "num_key_value_heads": grouped}
        )
        model = transformers.AutoModelForCausalLM.from_config(
            config,
            dtype=HALF if precision == "bf16" else SINGLE,
            attn_implementation=attention,
        )
        if dropout is not None:
            import peft

            settings = peft.LoraConfig(
                r=8, target_modules=["q_proj", "v_proj"], lora_dropout=dropout
            )
            model = peft.get_peft_model(model, settings, autocast_adapter_dtype=False)

        def act(storages, model=model):
            model = faked(model)
            ids = torch.zeros(BATCH, SEQUENCE, dtype=torch.long)
            before = storages.live_bytes
            if precision == "amp":
                with autocast("bf16"):
                    out = model(input_ids=ids, use_cache=False)
                weights = sum(p.numel() for p in model.parameters() if p.dim() == 2) * 2
                # The cache of cast weights is gone here, but for what the graph keeps of it.
                kept = storages.live_bytes - before
                return kept - (weights - model.lm_head.weight.numel() * 2), out
            out = model(input_ids=ids, use_cache=False)
            return storages.live_bytes - before, out

        kept.append(traced(act)[0])
    return (kept[1] - kept[0]) / (SEQUENCE * BATCH * HIDDEN)


F = INNER / HIDDEN
ROWS = 8 / HIDDEN
"""The fp32 statistics of a row in two norms."""
LSE = 4 * HEADS / HIDDEN
SCORES = HEADS * SEQUENCE / HIDDEN


@pytest.mark.parametrize(
    ("case", "coefficient"),
    [
        # Counted on real tensors by saved_tensors_hooks, for f = 2.6875.
        ({"precision": "bf16"}, 45.5 + LSE),
        ({"precision": "bf16", "attention": "eager"}, 45.5 + 6 * SCORES),
        ({"precision": "bf16", "grouped": 1}, 20 + 4 / HEADS + 8 * F + LSE),
        ({"precision": "amp"}, 55.5 + LSE),
        ({"precision": "fp32"}, 83 + LSE),
    ],
    ids=str,
)
def test_llama_keeps_the_counted_coefficient(case, coefficient):
    assert _kept_by_a_layer(**case) == pytest.approx(coefficient + ROWS, abs=0.01)


def test_dropout_of_lora_keeps_masks_of_a_byte():
    """Of q and v each an output in bf16 and a mask, in place of the input that both kept."""
    without = _kept_by_a_layer("bf16", dropout=0.0)
    assert _kept_by_a_layer("bf16", dropout=0.05) - without == pytest.approx(2 * (2 + 1) - 2)


SMALL = {"num_hidden_layers": 2, "vocab_size": 500}
WIDE = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128, **SMALL}
TEXT = "AutoModelForCausalLM"
MODELS = {
    "llama": (TEXT, WIDE),
    "qwen2": (TEXT, {**WIDE, "num_key_value_heads": 2}),
    "gpt2": (TEXT, {"n_embd": 64, "n_head": 4, "n_layer": 2, "vocab_size": 500}),
    "opt": (TEXT, {**WIDE, "ffn_dim": 128, "word_embed_proj_dim": 64}),
    "gpt_neox": (TEXT, WIDE),
    "bert": ("AutoModelForMaskedLM", WIDE),
    "t5": (
        "AutoModelForSeq2SeqLM",
        {"d_model": 64, "d_ff": 128, "d_kv": 16, "num_heads": 4, "num_layers": 2},
    ),
    "vit": ("AutoModelForImageClassification", {**WIDE, "image_size": 64, "patch_size": 16}),
}


PRECISIONS = ("fp32", "fp16", "bf16", "amp-fp16", "amp-bf16")
CASES = [(name, "amp-bf16") for name in MODELS] + [
    (name, precision) for name in ("llama", "qwen2", "bert") for precision in PRECISIONS[:4]
]


@pytest.mark.parametrize("mask", [None, "full"])
@pytest.mark.parametrize("use_cache", [False, True])
@pytest.mark.parametrize("name", ["llama", "bert"])
def test_full_sequences_need_no_mask(name, use_cache, mask):
    import transformers

    auto, fields = MODELS[name]
    config = transformers.AutoConfig.for_model(name, use_cache=use_cache, **fields)
    model = getattr(transformers, auto).from_config(config, dtype=HALF)

    def act(storages):
        ids = torch.zeros(2, 32, dtype=torch.long)
        faked(model)(input_ids=ids, attention_mask=None if mask is None else torch.ones_like(ids))
        return [op for op, _, _ in storages.take()]

    made = traced(act)
    assert made.count("_scaled_dot_product_flash_attention") == 2 * 2  # out, logsumexp


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_models_train_and_leave_only_gradients(name, precision):
    import transformers

    auto, fields = MODELS[name]
    config = transformers.AutoConfig.for_model(name, **fields)
    config.decoder_start_token_id = 0
    lower = {"fp16": FP16, "bf16": HALF}.get(precision, SINGLE)
    model = getattr(transformers, auto).from_config(config, dtype=lower)

    def act(storages):
        faked(model)
        before = storages.live_bytes
        if name == "vit":
            inputs = {
                "pixel_values": torch.empty(2, 3, 64, 64, dtype=lower),
                "labels": torch.zeros(2, dtype=torch.long),
            }
        else:
            inputs = {
                "input_ids": torch.zeros(2, 32, dtype=torch.long),
                "labels": torch.zeros(2, 32, dtype=torch.long),
            }
        if precision.startswith("amp-"):
            with autocast(precision.removeprefix("amp-")):
                loss = model(**inputs)["loss"]
        else:
            loss = model(**inputs)["loss"]
        loss.backward()
        del inputs, loss
        gradients = {
            p.grad.untyped_storage()._cdata: p.grad.untyped_storage().nbytes()
            for p in model.parameters()
            if p.grad is not None
        }
        assert all(p.grad.dtype == p.dtype for p in model.parameters() if p.grad is not None)
        large = sum(size for size in gradients.values() if size > 64)
        return storages.live_bytes - before - large, storages.take()

    left, made = traced(act)
    assert left == 0
    # Half precision goes to flash attention; fp32, and a bias on the scores, do not.
    efficient = name == "t5" or precision == "fp32"
    kernel = "efficient" if efficient else "flash"
    assert any(op == f"_scaled_dot_product_{kernel}_attention" for op, _, _ in made) or (
        name == "qwen2" and precision == "fp32"  # grouped queries in fp32: no fused kernel
    )
