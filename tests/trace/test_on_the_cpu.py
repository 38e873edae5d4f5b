"""The CPU's trace against the same loop run for real here, its storages counted independently."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, LlamaConfig, logging

from tests.trace.storages import Storages
from vramtop.estimator.layers import repeat
from vramtop.estimator.live.steps import steady_step
from vramtop.estimator.pattern import single
from vramtop.estimator.workload import Loop, Model, Workload
from vramtop.trace.run import run

BATCH, SEQUENCE, VOCABULARY = 4, 64, 500
LLAMA = {
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "attention_dropout": 0.1,
}
CASES = {
    "plain": {},
    "bf16": {"precision": "bf16"},
    "autocast": {"precision": "amp-bf16"},
    "checkpointing": {"checkpointing": "full"},
    "accumulation": {"grad_accumulation": 2},
    "momentum": {"optimizer": "sgd-momentum"},
    "foreach": {"optimizer_implementation": "foreach"},
    "fused": {"optimizer_implementation": "fused"},
    "outputs kept": {"loop": Loop(keeps_outputs=True)},
    "zero_grad late": {"loop": Loop(keeps_outputs=False, zero_grad="before-backward")},
    "loss outside": {"loop": Loop(keeps_outputs=False, loss="outside")},
    "eval mode": {"loop": Loop(keeps_outputs=False, training_mode=False)},
}


def workload_of(case):
    fields = {"precision": "fp32", "loop": Loop(keeps_outputs=False), **case}
    model = Model("a small llama", {"model_type": "llama", **LLAMA})
    return Workload(model, batch=BATCH, sequence=SEQUENCE, backend="cpu", **fields)


class Real(Storages):
    """Counts what lives at the ends of the phases, and the most in each."""

    def __init__(self):
        super().__init__()
        self.after, self.peaks = {}, {}

    def ended(self, phase):
        self.after[phase], self.peaks[phase] = self.live_bytes, self.peak_bytes
        self.peak_bytes = self.live_bytes


def optimizer_of(workload, model):
    if workload.optimizer == "sgd-momentum":
        return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    how = {"foreach": {"foreach": True}, "fused": {"fused": True}}
    return torch.optim.AdamW(model.parameters(), **how.get(workload.optimizer_implementation, {}))


def trained(workload):
    """Three steps of the loop of the workload, the last of which counts."""
    logging.set_verbosity_error()
    dtype = torch.bfloat16 if workload.precision == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_config(LlamaConfig(**LLAMA), dtype=dtype)
    model.train(workload.loop.training_mode)
    if workload.checkpointing == "full":
        model.activation_checkpointing_enable()
    optimizer = optimizer_of(workload, model)
    real, outputs = Real(), None
    for parameter in model.parameters():
        real._see("parameter", parameter)  # an optimizer that steps in place gives it back
    with real:
        for _ in range(3):
            for number in range(workload.grad_accumulation):
                tokens = torch.randint(VOCABULARY, (BATCH, SEQUENCE))
                real.ended("other")
                with torch.autocast("cpu", torch.bfloat16, workload.precision == "amp-bf16"):
                    if workload.loop.loss == "outside":
                        logits = model(input_ids=tokens).logits
                        loss = cross_entropy(logits.flatten(0, 1), tokens.flatten())
                        del logits
                    elif workload.loop.keeps_outputs:
                        outputs = model(input_ids=tokens, labels=tokens)
                        loss = outputs.loss
                    else:
                        loss = model(input_ids=tokens, labels=tokens).loss
                if workload.grad_accumulation > 1:
                    loss = loss / workload.grad_accumulation
                real.ended("forward")
                if workload.loop.zero_grad == "before-backward" and not number:
                    optimizer.zero_grad()
                    real.ended("zero_grad")
                loss.backward()
                real.ended("backward")
            optimizer.step()
            real.ended("step")
            if workload.loop.zero_grad == "after-step":
                optimizer.zero_grad()
                real.ended("zero_grad")
    del outputs
    return real


def traced(workload):
    done = run(workload, lambda *_: None)
    pattern = single(done.recording, BATCH)
    for stack in done.stacks:
        pattern = repeat(pattern, stack, done.irregular)
    return steady_step(pattern.to_timeline(), BATCH, "cpu")


@pytest.mark.parametrize("name", CASES)
def test_every_phase_is_what_a_real_step_holds(name):
    workload = workload_of(CASES[name])
    real = trained(workload)
    step = traced(workload)
    assert {phase.name for phase in step.phases} == real.after.keys() - {"other"}
    # Labels are the tokens themselves here; scalars (64 bytes and less) are not counted here.
    slack = 3 * BATCH * SEQUENCE * 8
    for phase in step.phases:
        held = sum(phase.after.values())
        assert held == pytest.approx(real.after[phase.name], abs=slack), phase.name
        # A real step under any dispatch mode sums gradients up out of place.
        assert phase.peak_bytes == pytest.approx(real.peaks[phase.name], rel=0.03), phase.name
