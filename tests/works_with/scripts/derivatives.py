"""Derivatives beyond a plain backward: gradient penalty, retained graphs, anomaly mode."""

import parts
import torch
from proof import STEPS, Proof

proof = Proof()
model = parts.Perceptron(128)
optimizer = torch.optim.AdamW(model.parameters())
for step in range(STEPS):
    x, y = parts.batch()
    x.requires_grad_()
    optimizer.zero_grad()
    with torch.autograd.set_detect_anomaly(step % 4 == 3, check_nan=True):
        out = model(x)
        loss = torch.nn.functional.cross_entropy(out, y)
        (slope,) = torch.autograd.grad(loss, x, create_graph=True)
        (loss + 0.1 * slope.pow(2).sum()).backward(retain_graph=True)
        if step % 3 == 0:
            out.mean().backward()
    optimizer.step()
    proof.loss(loss, slope, x.grad)
proof.end(model)
