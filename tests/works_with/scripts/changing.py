"""A model that changes while it is trained: dtype, layers, swapped data, a new optimizer."""

import parts
import torch
from proof import STEPS, Proof
from torch import nn

proof = Proof()
model = parts.Perceptron()
optimizer = torch.optim.AdamW(model.parameters())
for step in range(STEPS):
    x, y = parts.batch()
    if step % 20 == 5:
        layer = nn.Linear(10, 10).to(model.layers[0].weight)
        model.layers.append(layer)
        optimizer.add_param_group({"params": layer.parameters()})
    if step % 20 == 10:
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
    if step % 20 == 15:
        model.to(torch.float64 if model.layers[0].weight.dtype == torch.float32 else torch.float32)
        optimizer = torch.optim.AdamW(model.parameters())
    if step == 50:
        with torch.device("meta"):
            ghost = parts.Perceptron(4096)
        real = ghost.to_empty(device="cpu")
        del ghost, real
    loss = parts.loss_of(model, x.to(model.layers[0].weight.dtype), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    proof.loss(loss)
proof.end(model)
