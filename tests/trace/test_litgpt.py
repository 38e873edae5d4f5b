"""LitGPT's model: parameter counts as published, and what one step keeps, counted by hand."""

import pytest
import torch

from vramtop.errors import UsageError
from vramtop.estimator.layers import repeat
from vramtop.estimator.pattern import single
from vramtop.estimator.workload import Lora, Model, Parallel, Workload
from vramtop.trace.run import run
from vramtop.trace.stacks import litgpt
from vramtop.trace.stacks.litgpt_linear import FourBitLinear, LoraLinear, LoraQkvLinear
from vramtop.trace.stacks.litgpt_shape import lit_shape

LLAMA_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
}
LLAMA_13B = {
    **LLAMA_7B,
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
}
STABLELM_3B = {
    "model_type": "gpt_neox",
    "hidden_size": 4096,
    "intermediate_size": 16384,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "vocab_size": 50688,
}
PHI_1_5 = {
    "model_type": "phi",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 24,
    "num_attention_heads": 32,
    "vocab_size": 51200,
}
FALCON_40B = {
    "model_type": "falcon",
    "hidden_size": 8192,
    "num_hidden_layers": 60,
    "num_attention_heads": 128,
    "num_kv_heads": 8,
    "new_decoder_architecture": True,
    "vocab_size": 65024,
}
GEMMA2_TINY = {
    "model_type": "gemma2",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 64,
}
LLAMA_TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
}


def workload(config, **changes):
    return Workload(Model("m", config), stack="litgpt", **{"sequence": 16, **changes})


def trainable(module):
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def real(module):
    """A module of the meta device with storages and small values."""
    module.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.zero_()
    return module


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (LLAMA_7B, 4_194_304),
        (LLAMA_13B, 6_553_600),
        (STABLELM_3B, 2_097_152),
        (PHI_1_5, 1_572_864),
        (FALCON_40B, 12_042_240),
    ],
)
def test_adapters_have_the_parameters_that_litgpt_prints(config, published):
    # tutorials/resource-tables.md, column "Trainable parameters": rank 8, query and value.
    module, _ = litgpt.build(workload(config, lora=Lora(8, (), 0.05)))
    assert trainable(module) == published


@pytest.mark.parametrize(
    ("config", "published"), [(LLAMA_7B, 6_738_415_616), (LLAMA_13B, 13_015_864_320)]
)
def test_a_whole_model_has_the_parameters_of_its_checkpoint(config, published):
    module, _ = litgpt.build(workload(config))
    assert trainable(module) == published


def test_fewer_layers_on_request():
    module, _ = litgpt.build(workload(LLAMA_7B), 3)
    assert len(module.transformer["h"]) == 3
    assert litgpt.depth(workload(LLAMA_7B)) == 32


@pytest.mark.parametrize("config", [LLAMA_TINY, GEMMA2_TINY])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lora": Lora(4, (), 0.0)},
        {"lora": Lora(4, ("query", "key", "value", "projection", "mlp", "head"), 0.1)},
    ],
)
def test_a_step_gives_a_finite_loss_and_gradients(config, changes):
    module, step = litgpt.build(workload(config, precision="fp32", **changes))
    loss = step(real(module), 2, 16)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad)


def test_the_loss_is_that_of_all_tokens_at_once():
    torch.manual_seed(0)
    module, step = litgpt.build(workload(LLAMA_TINY, precision="fp32", sequence=300))
    real(module)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    module.cos.fill_(1.0)
    loss = step(module, 2, 300)
    logits = module(torch.zeros(2, 300, dtype=torch.long))[:, :-1]
    whole = torch.nn.functional.cross_entropy(
        logits.reshape(-1, 128), torch.zeros(2 * 299, dtype=torch.long)
    )
    assert loss.item() == pytest.approx(whole.item(), rel=1e-5)


def test_four_bits_and_a_scale_for_every_64_weights():
    layer = FourBitLinear(128, 64, bias=False, double=False)
    assert layer.weight.numel() == 128 * 64 // 2
    assert layer.absmax.nbytes == 128 * 64 // 64 * 4
    nested = FourBitLinear(128, 512, bias=False, double=True)
    assert nested.absmax.nbytes == 128 * 512 // 64
    assert nested.nested_absmax.nbytes == 128 * 512 // 64 // 256 * 4


def test_a_quantised_layer_holds_its_input_until_the_next_loss():
    module, step = litgpt.build(
        workload(LLAMA_TINY, precision="nf4", lora=Lora(4, (), 0.0), compute_dtype="fp32")
    )
    real(module)
    step(module, 1, 16).backward()
    held = [layer for layer in module.modules() if isinstance(layer, FourBitLinear) and layer.kept]
    # Two layers of qkv, projection and three of the MLP, and the head; what is before the first
    # adapter needs no gradient, so the first qkv layer holds nothing.
    assert len(held) == 2 * 5 + 1 - 1
    again = module.begin()
    assert len(again) == len(held)
    assert not any(layer.kept for layer in held)


def test_an_adapter_for_some_of_the_three_is_spread_into_all():
    layer = LoraQkvLinear(8, (8, 4, 4), False, None, 2, 0.0, (True, False, True))
    with torch.no_grad():
        layer.index.copy_(torch.tensor([*range(8), *range(12, 16)]))
        layer.linear.weight.zero_()
        layer.lora_a.fill_(1.0)
        layer.lora_b.fill_(1.0)
    made = layer(torch.ones(1, 3, 8))
    assert made.shape == (1, 3, 16)
    assert (made[..., 8:12] == 0).all()
    assert (made[..., :8] == 2 * 8 * layer.scaling).all()


def test_rank_zero_is_no_adapter():
    layer = LoraLinear(8, 8, False, None, 0, 0.1)
    assert [name for name, _ in layer.named_parameters()] == ["linear.weight"]


def test_generation_runs_with_a_cache_of_the_whole_length():
    module, step = litgpt.build(
        workload(LLAMA_TINY, mode="inference", precision="fp32", sequence=4, new_tokens=3)
    )
    with torch.no_grad():
        logits = step(real(module), 1, 4)
    assert logits.shape == (1, 1, 128)
    keys, values = module.transformer["h"][0].attn.cache
    # LitGPT's cache has every query head, not the key and value heads.
    assert keys.shape == values.shape == (1, 4, 7, 16)


@pytest.mark.parametrize(("stages", "width"), [(1, 2), (2, 4)])
def test_every_layer_has_a_cache_though_few_are_traced(stages, width):
    """Heads x length x head size, keys and values; in fp32 where stages run one after the other."""
    asked = workload(
        {**LLAMA_TINY, "num_hidden_layers": 24},
        mode="inference",
        sequence=4,
        new_tokens=3,
        parallel=Parallel(gpus=stages, pipeline=stages),
    )
    made = run(asked, lambda *_: None)
    whole = repeat(single(made.recording, 1), made.stacks[0], made.irregular).to_timeline()
    caches = [block for block in whole.blocks if block.operation == "aten::zeros" and block.layer]
    assert {block.base_bytes for block in caches} == {4 * 7 * 16 * width}
    assert len(caches) == 2 * (24 // stages - 1)  # of all layers but that with number 0


def test_what_litgpt_does_not_have():
    with pytest.raises(UsageError, match="bert"):
        lit_shape({"model_type": "bert"})
    with pytest.raises(UsageError, match="int8"):
        litgpt.build(workload(LLAMA_TINY, precision="int8"))
