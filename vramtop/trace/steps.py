"""What a workload does, phase by phase, as the usual loops do it: two training steps, or inference.

The order of releases matters as much as the sizes, so the loops keep and drop names just as the
loop of the stack does (``Workload.stack``), or as it was seen to do (``Workload.loop``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..errors import UsageError
from ..estimator.workload import Workload
from .build import Built
from .checkpointing import enable_checkpointing
from .forward import forward
from .inputs import make_inputs
from .optimizers import make_optimizer
from .recorder import Recorder

STEPS = 2
"""The first has no optimizer state before its end; every later one is like the second."""
_MICRO_BATCHES = 2
"""Accumulated at most: the third micro-batch is like the second."""

Progress = Callable[[str, float], None]


def run_training(built: Built, workload: Workload, recorder: Recorder, progress: Progress) -> None:
    """Two training steps; the fake mode and the recorder are entered, the model is loaded."""
    model = built.model
    enable_checkpointing(model, workload)
    trainable = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    parameters = [p for _, p in trainable]
    recorder.mark("other", 0)  # Adagrad makes its states at once
    optimizer = make_optimizer(workload, trainable)
    micro_batches = min(workload.grad_accumulation, _MICRO_BATCHES)
    loop = workload.loop
    keeps_outputs = loop.keeps_outputs
    if keeps_outputs is None:
        keeps_outputs = workload.stack in ("plain", "fsdp-qlora")
    zeroes_late = loop.zero_grad == "before-backward"
    if not loop.training_mode:
        model.eval()
    outputs: Any = None
    loss: Any = None
    with recorder.hooks():
        for step in range(1, STEPS + 1):
            progress(f"step {step} of {STEPS}", (step - 1) / STEPS)
            for micro_batch in range(micro_batches):
                recorder.mark("other", step)
                inputs = make_inputs(built, workload)
                recorder.label(((name, tensor) for name, tensor in inputs.items()), "input")
                recorder.mark("forward", step)
                if keeps_outputs:
                    outputs = forward(built, workload, recorder, inputs)
                    loss = _loss(outputs)
                else:
                    loss = _loss(forward(built, workload, recorder, inputs))
                if micro_batches > 1:
                    loss = loss / workload.grad_accumulation
                if zeroes_late and micro_batch == 0:
                    recorder.mark("zero_grad", step)
                    optimizer.zero_grad()
                recorder.mark("backward", step)
                loss.backward()
                if workload.stack == "hf-trainer":
                    loss = loss.detach()  # Trainer.training_step gives no graph back
                recorder.label(
                    ((n, p.grad) for n, p in trainable if p.grad is not None), "gradient"
                )
            recorder.mark("step", step)
            if workload.stack == "hf-trainer":
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            recorder.label(_states(optimizer, trainable), "optimizer_state")
            if not zeroes_late:
                recorder.mark("zero_grad", step)
                optimizer.zero_grad()
            if workload.stack == "fsdp-qlora":
                outputs = loss = None
    recorder.end(STEPS)
    del outputs


def _loss(outputs: Any) -> Any:
    loss = outputs["loss"] if isinstance(outputs, dict) else outputs[0]
    if not isinstance(loss, torch.Tensor) or loss.dim():
        raise UsageError(
            "the model gives no scalar loss: let your function return (model, step), and step "
            "return the loss"
        )
    return loss


def _states(optimizer: Any, trainable: list[tuple[str, Any]]) -> Any:
    names = {id(p): n for n, p in trainable}
    for parameter, state in optimizer.state.items():
        for value in state.values():
            if isinstance(value, torch.Tensor):
                yield names.get(id(parameter), ""), value
