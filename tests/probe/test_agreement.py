"""What the probe says over its socket equals a count by hand, to the byte, at every boundary."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402


def gpt2():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=64, n_positions=16, n_embd=16, n_layer=2, n_head=2, use_cache=False
    )
    return transformers.GPT2LMHeadModel(config)


def llama(tied):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=16,
        tie_word_embeddings=tied,
        use_cache=False,
    )
    return transformers.LlamaForCausalLM(config)


class LowRank(nn.Module):
    """A frozen linear layer with a trained low-rank part beside it."""

    def __init__(self, base, rank=2):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


def lora():
    return nn.Sequential(
        LowRank(nn.Linear(8, 16)), nn.GELU(), LowRank(nn.Linear(16, 8)), nn.LayerNorm(8)
    )


def convnet():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)
    )


def adamw(model):
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])


def momentum(model):
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def tokens(model):
    ids = torch.randint(0, 64, (2, 8))
    return model(input_ids=ids).logits.float().pow(2).mean()


def features(model):
    return model(torch.randn(4, 8)).pow(2).mean()


def images(model):
    return model(torch.randn(2, 3, 8, 8)).pow(2).mean()


CASES = {
    "gpt2": (gpt2, adamw, tokens),
    "llama-untied": (lambda: llama(False), adamw, tokens),
    "llama-tied": (lambda: llama(True), adamw, tokens),
    "lora": (lora, adamw, features),
    "convnet": (convnet, momentum, images),
}


@pytest.mark.parametrize("set_to_none", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_every_boundary(case, set_to_none, viewer, by_hand, three):
    make, optimize, loss_of = CASES[case]
    model = make()
    optimizer = optimize(model)
    after_zero_grad = []

    def inside_forward(*_):
        # zero_grad itself has no hook: its effect shows when the next forward begins.
        if not optimizer.state:
            return  # the model becomes known with its optimizer's first step
        after_zero_grad.append((three(viewer.breakdown()), by_hand(model, optimizer)))

    def before_step(*_):
        told = three(viewer.breakdown())
        assert told == by_hand(model, optimizer)
        assert told[1] > 0

    first = next(m for m in model.modules() if not list(m.children()))
    first.register_forward_pre_hook(inside_forward)
    for step in range(3):
        loss = loss_of(model)
        if step:
            assert three(viewer.breakdown()) == by_hand(model, optimizer)
        loss.backward()
        del loss
        if step == 1:
            # After backward and before the step: heard when the step begins.
            handle = optimizer.register_step_pre_hook(before_step)
            optimizer.step()
            handle.remove()
        else:
            optimizer.step()
        told = three(viewer.breakdown())
        assert told == by_hand(model, optimizer)
        assert all(told)
        optimizer.zero_grad(set_to_none=set_to_none)
    assert len(after_zero_grad) == 2
    for told, counted in after_zero_grad:
        assert told == counted
        assert bool(told[1]) is not set_to_none


def test_buffers_are_told_apart(viewer):
    model = convnet()
    optimizer = momentum(model)
    images(model).backward()
    optimizer.step()
    buffers = sum(b.numel() * b.element_size() for b in model.buffers())
    assert viewer.breakdown()["buffer_bytes"] == buffers > 0


def test_job_describes_model_and_optimizer(viewer):
    model = llama(True)
    optimizer = adamw(model)
    for _ in range(2):
        tokens(model).backward()
        optimizer.step()
    viewer.now()
    job = viewer.job
    (described,) = job["models"]
    trained = sum(p.numel() for p in model.parameters())
    assert described["class"] == "LlamaForCausalLM"
    assert described["parameters"] == described["trainable_parameters"] == trained
    assert described["parameters_by_dtype"] == {"float32": trained}
    assert described["batch_shapes"] == [[2, 8]]
    assert described["hf_config"]["hidden_size"] == 16
    (stepped,) = job["optimizers"]
    assert stepped["class"] == "AdamW"
    assert stepped["defaults"]["lr"] == optimizer.defaults["lr"]
    assert job["torch"] == torch.__version__
