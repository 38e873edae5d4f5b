"""The loop of every tutorial; argv[1] is the optimizer, argv[2] whether gradients become None."""

import sys

import parts
import torch
from proof import STEPS, Proof

proof = Proof()
model = parts.Perceptron()
optimizer = getattr(torch.optim, sys.argv[1])(model.parameters(), lr=0.01)
for _ in range(STEPS):
    x, y = parts.batch()
    loss = parts.loss_of(model, x, y)
    optimizer.zero_grad(set_to_none=sys.argv[2] == "none")
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    proof.loss(loss)
proof.end(model)
