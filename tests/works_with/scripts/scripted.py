"""A TorchScript module in training."""

import parts
import torch
from proof import STEPS, Proof

proof = Proof()
model = torch.jit.script(parts.Perceptron())
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(STEPS):
    loss = parts.loss_of(model, *parts.batch())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    proof.loss(loss)
proof.end(model)
