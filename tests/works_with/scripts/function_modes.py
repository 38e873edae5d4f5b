"""The user's own TorchFunctionMode around every second step: it hears nothing of ours."""

import hashlib

import parts
import torch
from proof import STEPS, Proof
from torch.overrides import TorchFunctionMode

proof = Proof()


class Listen(TorchFunctionMode):
    heard = hashlib.sha256()
    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        Listen.heard.update(getattr(func, "__name__", str(func)).encode())
        Listen.count += 1
        return func(*args, **(kwargs or {}))


model = parts.Transformer()
optimizer = torch.optim.AdamW(model.parameters())
for step in range(STEPS):
    with Listen() if step % 2 else torch.device("cpu"):
        loss = parts.next_token_loss(model, parts.tokens())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    proof.loss(loss)
proof.end(model, count=Listen.count, heard=Listen.heard.hexdigest())
