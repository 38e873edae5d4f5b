"""One optimizer a parameter, which steps as soon as the gradient is there."""

import parts
import torch
from proof import STEPS, Proof

proof = Proof()
model = parts.Transformer()
optimizers = {p: torch.optim.AdamW([p]) for p in model.parameters()}


def step(parameter):
    optimizers[parameter].step()
    optimizers[parameter].zero_grad()


for parameter in model.parameters():
    parameter.register_post_accumulate_grad_hook(step)
for _ in range(STEPS):
    loss = parts.next_token_loss(model, parts.tokens())
    loss.backward()
    proof.loss(loss)
proof.end(model, left=sum(p.grad is not None for p in model.parameters()))
