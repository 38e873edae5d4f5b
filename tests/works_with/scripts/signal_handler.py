"""A signal handler that computes with tensors, called wherever the training happens to be."""

import signal

import parts
import torch
from proof import STEPS, Proof

proof = Proof()
model = parts.Transformer()
optimizer = torch.optim.AdamW(model.parameters())
handled = [0]
watched = torch.nn.Linear(8, 8)


def handle(*_):
    with torch.no_grad():
        handled[0] += bool(watched(torch.ones(2, 8)).sum().isfinite())
    with torch.enable_grad():
        watched(torch.ones(2, 8)).sum().backward()


signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.003)
for _ in range(STEPS):
    loss = parts.next_token_loss(model, parts.tokens())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    proof.loss(loss)
signal.setitimer(signal.ITIMER_REAL, 0)
proof.end(model, handled=handled[0] > 10)
