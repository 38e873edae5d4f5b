"""Gradient accumulation: four forwards and backwards a step."""

import parts
import torch
from proof import STEPS, Proof

proof = Proof()
model = parts.Transformer()
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(STEPS):
    for _ in range(4):
        loss = parts.next_token_loss(model, parts.tokens()) / 4
        loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    proof.loss(loss)
proof.end(model)
