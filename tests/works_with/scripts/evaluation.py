"""Training with an evaluation of several batches after every step."""

import parts
import torch
from proof import STEPS, Proof

proof = Proof()
model = parts.convnet()
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(STEPS):
    model.train()
    loss = parts.loss_of(model, *parts.images())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    proof.loss(loss)
    model.eval()
    with torch.no_grad():
        proof.loss(*(parts.loss_of(model, *parts.images()) for _ in range(3)))
proof.end(model)
