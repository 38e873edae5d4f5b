"""LoRA by PEFT: what is trained, in which dtype, and what its layers over quantised ones make."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

import torch
from peft import LoraConfig, get_peft_model

from tests.trace.events import happenings, materialised
from vramtop.errors import UsageError
from vramtop.estimator.workload import Lora, Model, Workload
from vramtop.trace.build import build
from vramtop.trace.lora import add_lora
from vramtop.trace.quantized import quantize

TINY = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 500,
    "num_hidden_layers": 2,
}
LLAMA = Model("llama", TINY)
GPT2 = Model(
    "gpt2", {"model_type": "gpt2", "n_layer": 2, "n_embd": 128, "n_head": 4, "vocab_size": 500}
)
BF16, FP32 = torch.bfloat16, torch.float32


def adapted(lora, precision="bf16", model=LLAMA, **options):
    workload = Workload(model, precision=precision, lora=lora, **options)
    made = build(workload).model
    quantize(made, workload)
    return add_lora(made, workload)


def trained(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def test_the_default_targets_are_pefts():
    names = {name.split(".lora_")[0].rpartition(".")[2] for name in trained(adapted(Lora(8)))}
    assert names == {"q_proj", "v_proj"}
    (name,) = {
        n.split(".lora_")[0].rpartition(".")[2] for n in trained(adapted(Lora(8), model=GPT2))
    }
    assert name == "c_attn"


def test_all_linear_leaves_the_head():
    parameters = trained(adapted(Lora(4, ("all-linear",))))
    square, kv, mlp = 128 + 128, 128 + 64, 128 + 352
    assert sum(p.numel() for p in parameters.values()) == 2 * 4 * (2 * square + 2 * kv + 3 * mlp)
    assert not any("lm_head" in name for name in parameters)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32", "nf4", "int8", "int4", "fp8"])
def test_adapters_are_fp32_and_frozen_weights_are_not_trained(precision):
    parameters = trained(adapted(Lora(8), precision))
    assert {p.dtype for p in parameters.values()} == {FP32}
    assert all("lora_" in name for name in parameters)


@pytest.mark.parametrize("precision", ["bf16", "nf4"])
def test_other_stacks_keep_adapters_in_the_weights_dtype(precision):
    parameters = trained(adapted(Lora(8), precision, stack="torchtune"))
    assert {p.dtype for p in parameters.values()} == {BF16}


@pytest.mark.parametrize("precision", ["bf16", "nf4"])
def test_nothing_is_real(precision):
    assert all(p.is_meta for p in adapted(Lora(8, ("all-linear",), 0.1), precision).parameters())


def test_a_real_peft_model_has_the_same_adapters():
    ours = trained(adapted(Lora(8, ("q_proj", "up_proj"))))
    real = build(Workload(LLAMA)).model.to_empty(device="cpu")
    real = trained(get_peft_model(real, LoraConfig(r=8, target_modules=["q_proj", "up_proj"])))
    assert {(n.removeprefix("base_model."), p.shape, p.dtype) for n, p in ours.items()} == {
        (n.removeprefix("base_model."), p.shape, p.dtype) for n, p in real.items()
    }


def test_classifiers_train_their_head_too():
    model = Model("llama", TINY, auto_class="AutoModelForSequenceClassification")
    assert any("score" in name for name in trained(adapted(Lora(8), model=model)))


def test_wrong_names_are_said():
    with pytest.raises(UsageError, match="no module 'q_prj'; it has embed_tokens, q_proj, k_proj"):
        adapted(Lora(8, ("q_prj",)))
    # One of several would go unnoticed with PEFT.
    with pytest.raises(UsageError, match="no module 'c_attn'"):
        adapted(Lora(8, ("q_proj", "c_attn")))


def test_a_model_without_defaults_asks_for_targets(monkeypatch):
    from peft.tuners.lora.model import LoraModel

    monkeypatch.setattr(LoraModel, "target_module_mapping", {})
    with pytest.raises(UsageError, match="no LoRA targets for llama; give --lora-targets: "):
        adapted(Lora(8))


ROWS, WIDTH, RANK = 6, 128, 8


def forward_events(precision):
    """Events of q_proj with its adapter, on an fp32 input as k-bit preparation gives it."""

    model = adapted(Lora(RANK), precision)
    path = "base_model.model.model.layers.0.self_attn.q_proj"

    def prepare():
        layer = materialised(model.get_submodule(path))
        return layer, torch.empty(2, 3, WIDTH, requires_grad=True)

    return happenings(prepare, lambda given: given[0](given[1]))


@pytest.mark.parametrize(("precision", "copies"), [("nf4", 1), ("int8", 0)])
def test_adapters_over_quantised_layers_as_pefts(precision, copies):
    events, left = forward_events(precision)
    wide = ROWS * WIDTH * 4
    # The base's output, its copy for 4-bit, B's product, that times the scale, and the sum; of
    # int8's own the fp16 result is made fp32, the product int32 is as wide, and nothing else.
    assert events.count(wide) == 4 + copies + (precision == "int8")
    # The sum, what B is given (rank wide), and int8's input, which was there before.
    assert left == wide + ROWS * RANK * 4
