"""A program that stays under torch.inference_mode from its first to its last line."""

import parts
import torch
from proof import STEPS, Proof

proof = Proof()
with torch.inference_mode():
    model = parts.Transformer()
    for _ in range(STEPS):
        out = model(parts.tokens())
        assert out.is_inference()
        proof.loss(out)
    proof.end(model, version=out.is_inference())
# Trained afterwards: nothing of the above may have become an inference tensor of the probe's.
model = parts.Perceptron()
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(20):
    loss = parts.loss_of(model, *parts.batch())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    proof.loss(loss)
proof.end(model)
