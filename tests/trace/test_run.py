"""Inference, categories by hand, users' own models, and what is refused."""

import textwrap

import pytest

from vramtop.errors import UsageError
from vramtop.estimator.pattern import single
from vramtop.estimator.workload import Model, Workload
from vramtop.trace.run import run, trace_batches

LAYERS, KV_HEADS, HEAD = 8, 2, 32
LLAMA = Model(
    "a small llama",
    {
        "model_type": "llama",
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": 1000,
    },
)


def quiet(_text, _done):
    pass


def pattern_of(workload):
    return single(run(workload, quiet, whole=True).recording, workload.batch)


def live_at_end(pattern, category, phase):
    """Bytes of a category that are live when the last phase of a name ends."""
    marks = [*pattern.marks]
    last = max(i for i, mark in enumerate(marks) if mark.phase == phase)
    end = marks[last + 1].event if last + 1 < len(marks) else len(pattern.events)
    live = 0
    for event in pattern.events[:end]:
        block = pattern.blocks[abs(event) - 1]
        if block.category == category:
            live += block.base_bytes if event > 0 else -block.base_bytes
    return live


@pytest.mark.parametrize("new_tokens", [1, 5, 16, 40])
def test_the_cache_holds_keys_and_values_of_every_token_but_the_last(new_tokens):
    workload = Workload(LLAMA, "inference", batch=3, sequence=32, new_tokens=new_tokens)
    pattern = pattern_of(workload)
    tokens = 32 + new_tokens
    by_hand = 2 * LAYERS * KV_HEADS * HEAD * 2 * 3 * tokens
    assert live_at_end(pattern, "kv_cache", "generate") == by_hand


def test_a_forward_alone_has_no_cache():
    pattern = pattern_of(Workload(LLAMA, "inference", batch=3, sequence=32))
    assert "kv_cache" not in {block.category for block in pattern.blocks}
    assert {mark.phase for mark in pattern.marks} == {"load", "other", "forward", "end"}


def test_each_category_of_a_training_step_by_hand():
    pattern = pattern_of(Workload(LLAMA, batch=3, sequence=32, precision="bf16"))
    h, f, v = 128, 352, 1000
    attention = h * 4 * HEAD * 2 + h * KV_HEADS * HEAD * 2
    parameters = 2 * v * h + h + LAYERS * (attention + 3 * h * f + 2 * h)
    assert live_at_end(pattern, "parameter", "step") - 2 * (HEAD // 2) * 4 == 2 * parameters
    assert live_at_end(pattern, "gradient", "backward") == 2 * parameters
    assert live_at_end(pattern, "gradient", "zero_grad") == 0
    assert live_at_end(pattern, "optimizer_state", "zero_grad") == 4 * parameters
    tokens, rotary = 3 * 32 * 8, 32 * HEAD * 2
    # ids, labels, labels shifted by the loss; cosines and sines are made of positions alone
    assert live_at_end(pattern, "input", "forward") == 3 * tokens + 2 * rotary


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        textwrap.dedent(
            """
            import torch
            from torch import nn

            def make():
                def step(model, batch, sequence):
                    return model(torch.randn(batch, 100)).pow(2).mean()
                return nn.Sequential(nn.Linear(100, 50, bias=False), nn.ReLU()), step

            def bare():
                return nn.Linear(3, 3)

            def wrong():
                return 7

            def broken():
                raise RuntimeError("no weights here")

            def fails_late():
                def step(model, batch, sequence):
                    return model(torch.randn(batch, 4))
                return nn.Linear(3, 3), step
            """
        )
    )
    return path


def test_a_function_of_the_users_own(script):
    workload = Workload(Model("mine", entry=f"{script}:make"), batch=7, precision="fp32")
    pattern = pattern_of(workload)
    assert live_at_end(pattern, "parameter", "load") == 100 * 50 * 4
    assert live_at_end(pattern, "gradient", "backward") == 100 * 50 * 4
    assert live_at_end(pattern, "optimizer_state", "zero_grad") == 2 * 100 * 50 * 4


def test_a_function_s_weights_are_as_it_makes_them_or_as_asked(script):
    workload = Workload(Model("mine", entry=f"{script}:make"), batch=7, precision="bf16")
    assert live_at_end(pattern_of(workload), "parameter", "load") == 100 * 50 * 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bare", r"let your function return \(model, step\)"),
        ("wrong", "returned int, not a torch.nn.Module"),
        ("broken", "RuntimeError: no weights here"),
        ("missing", "has no function 'missing'"),
        ("fails_late", "RuntimeError"),
    ],
)
def test_what_is_wrong_with_it_is_said_in_one_line(script, name, message):
    with pytest.raises(UsageError, match=message) as caught:
        run(Workload(Model("mine", entry=f"{script}:{name}"), batch=2), quiet)
    assert "\n" not in str(caught.value)


def test_more_tokens_than_it_has_positions(tmp_path):
    path = tmp_path / "hf.py"
    path.write_text(
        "from transformers import GPT2Config, GPT2LMHeadModel\n"
        "def make():\n"
        "    return GPT2LMHeadModel(GPT2Config(n_layer=1, n_positions=64, vocab_size=99))\n"
    )
    model = Model("mine", entry=f"{path}:make")
    with pytest.raises(UsageError, match="takes at most 64 tokens: --seq 64"):
        run(Workload(model, batch=2, sequence=65, precision="fp32"), quiet)
    assert run(Workload(model, batch=2, sequence=64, precision="fp32"), quiet).recording.events


@pytest.mark.parametrize(
    ("option", "changes"),
    [
        ("--chunked-loss", {"chunked_loss": True}),
        ("--new-tokens", {"mode": "inference", "new_tokens": 4}),
    ],
)
def test_what_a_step_of_its_own_cannot_be_told(script, option, changes):
    workload = Workload(Model("mine", entry=f"{script}:make"), batch=2, **changes)
    with pytest.raises(UsageError, match=f"{option}: .*has a step of its own"):
        run(workload, quiet)


def test_a_configuration_that_transformers_refuses():
    with pytest.raises(UsageError, match=r"no-such-type.* is unknown to transformers"):
        run(Workload(Model("new", {"model_type": "no-such-type"})), quiet)


def test_layers_that_do_not_repeat_are_traced_one_by_one():
    config = {
        "model_type": "qwen3_moe",
        "hidden_size": 64,
        "intermediate_size": 128,
        "moe_intermediate_size": 32,
        "num_hidden_layers": 8,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 2,  # every second layer is dense, as no list in it says
        "vocab_size": 100,
    }
    workload = Workload(Model("a mixture", config), batch=2, sequence=16)
    (trace,) = trace_batches(workload, [2], quiet)
    assert trace["stacks"][0]["traced"] == 8
