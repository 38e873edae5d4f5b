"""A trace of a few layers, repeated, against a trace of all layers: event for event."""

import dataclasses

import pytest

from vramtop.estimator.layers import repeat
from vramtop.estimator.pattern import affine, single
from vramtop.estimator.workload import Lora, Model, Workload
from vramtop.trace.run import run

LLAMA = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
}
CONFIGS = {
    "llama": LLAMA,
    "gpt2": {"model_type": "gpt2", "n_embd": 128, "n_head": 4, "vocab_size": 1000},
    "bert": {
        "model_type": "bert",
        "hidden_size": 128,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        "vocab_size": 1000,
    },
    # Layers in a pattern: five of a sliding window and one of full attention.
    "gemma3_text": {
        "model_type": "gemma3_text",
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": 1000,
    },
    # The first layers are dense, the others mixtures of experts.
    "deepseek_v3": {
        "model_type": "deepseek_v3",
        "hidden_size": 128,
        "intermediate_size": 256,
        "moe_intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "q_lora_rank": 32,
        "kv_lora_rank": 32,
        "qk_nope_head_dim": 32,
        "qk_rope_head_dim": 16,
        "v_head_dim": 32,
        "first_k_dense_replace": 3,
        "vocab_size": 1000,
    },
    # Two stacks of layers.
    "t5": {
        "model_type": "t5",
        "d_model": 128,
        "d_kv": 32,
        "d_ff": 256,
        "num_heads": 4,
        "vocab_size": 1000,
    },
}
AUTO = {"bert": "AutoModelForMaskedLM", "t5": "AutoModelForSeq2SeqLM"}


def workload(name, depth, **options):
    config = dict(CONFIGS[name])
    if name == "t5":
        config |= {"num_layers": depth, "num_decoder_layers": depth}
    else:
        config["n_layer" if name == "gpt2" else "num_hidden_layers"] = depth
    model = Model(name, config, auto_class=AUTO.get(name, "AutoModelForCausalLM"))
    return Workload(model, sequence=32, **options)


def told(pattern, batch):
    """Every event with what is known of its block, and where it happened."""
    events = []
    for event, module in zip(pattern.events, pattern.event_modules, strict=True):
        block = pattern.blocks[abs(event) - 1]
        # In the allocator's unit: a stack of one number for each parameter grows with the depth.
        size = -(-block.size_bytes(batch) // 512)
        events.append((event, size, block.category, block.module, block.operation, module))
    return events


def quiet(_text, _done):
    pass


def repeated(asked, first=2, second=3):
    runs = [run(asked.with_batch(batch), quiet) for batch in (first, second)]
    pattern = affine(runs[0].recording, first, runs[1].recording, second)
    assert any(stack.missing for stack in runs[0].stacks), "nothing was left out"
    for stack in runs[0].stacks:
        pattern = repeat(pattern, stack, runs[0].irregular)
    return pattern


CASES = [
    ("llama", 12, {}),
    ("llama", 9, {"checkpointing": "full"}),
    ("llama", 9, {"checkpointing": "selective"}),
    ("llama", 9, {"attention": "eager", "precision": "amp-bf16"}),
    ("llama", 9, {"precision": "nf4", "lora": Lora(8)}),
    ("llama", 9, {"precision": "fp16", "lora": Lora(8, ("all-linear",), 0.05)}),
    ("llama", 9, {"precision": "amp-fp16", "stack": "hf-trainer"}),
    ("llama", 9, {"optimizer": "adafactor", "optimizer_implementation": "foreach"}),
    ("llama", 9, {"optimizer": "adamw-8bit", "grad_accumulation": 4}),
    ("llama", 9, {"mode": "inference", "new_tokens": 6}),
    ("llama", 9, {"chunked_loss": True}),
    ("gpt2", 8, {"optimizer": "sgd-momentum"}),
    ("bert", 8, {"precision": "fp32"}),
    ("gemma3_text", 26, {}),
    ("deepseek_v3", 10, {}),
    ("t5", 9, {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "depth", "options"),
    CASES,
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_repeated_layers_are_a_full_trace(name, depth, options):
    asked = workload(name, depth, **options)
    pattern = repeated(asked)
    batch = 5
    full = single(run(asked.with_batch(batch), quiet, whole=True).recording, batch)
    assert told(pattern, batch) == told(full, batch)
    assert pattern.marks == full.marks


@pytest.fixture(scope="module")
def of_twelve_layers():
    return run(workload("llama", 12).with_batch(2), quiet)


@pytest.mark.parametrize("depth", [6, 16, 33])
def test_three_depths_from_one_trace(depth, of_twelve_layers):
    runs = of_twelve_layers
    (stack,) = runs.stacks
    pattern = repeat(single(runs.recording, 2), dataclasses.replace(stack, depth=depth))
    full = run(workload("llama", depth).with_batch(2), quiet, whole=True)
    assert told(pattern, 2) == told(single(full.recording, 2), 2)


WITH_ADAPTERS = workload("llama", 9, precision="amp-bf16", lora=Lora(8))


@pytest.fixture(scope="module")
def line():
    return repeated(WITH_ADAPTERS)


@pytest.mark.parametrize("batch", [4, 5, 8, 17, 32])
def test_the_line_through_two_batches_goes_through_the_others(batch, line):
    full = single(run(WITH_ADAPTERS.with_batch(batch), quiet, whole=True).recording, batch)
    assert told(line, batch) == told(full, batch)
