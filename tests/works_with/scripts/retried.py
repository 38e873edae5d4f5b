"""Exceptions that the user catches and retries: in forward, in backward, in the optimizer."""

import parts
import torch
from proof import STEPS, Proof
from torch import nn

proof = Proof()
fail = None


class TooMuch(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        if fail == "backward":
            raise RuntimeError("out of memory in backward")
        return gradient


class Fails(nn.Linear):
    def forward(self, x):
        if fail == "forward":
            super().forward(x)
            raise torch.OutOfMemoryError("out of memory in forward")
        return TooMuch.apply(super().forward(x))


class Optimizer(torch.optim.AdamW):
    def step(self, closure=None):
        if fail == "step":
            raise RuntimeError("out of memory in step")
        return super().step(closure)


model = parts.Perceptron()
model.layers[3] = Fails(256, 256)
optimizer = Optimizer(model.parameters())
caught = []
for step in range(STEPS):
    fail = {3: "forward", 5: "backward", 7: "step"}.get(step % 10)
    size = 64
    while True:
        x, y = parts.batch(size)
        try:
            optimizer.zero_grad()
            loss = parts.loss_of(model, x, y)
            loss.backward()
            optimizer.step()
            break
        except (torch.OutOfMemoryError, RuntimeError) as error:
            caught.append(f"{type(error).__name__} {error}")
            fail, size = None, size // 2
    proof.loss(loss)
proof.end(model, caught=sorted(set(caught)), times=len(caught))
