"""A signal handler that computes and saves a checkpoint, wherever the training happens to be."""

import io
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
        torch.save(model.state_dict(), io.BytesIO())
    signal.setitimer(signal.ITIMER_REAL, 0.005)


signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.005)
for _ in range(STEPS):
    loss = parts.next_token_loss(model, parts.tokens())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    proof.loss(loss)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
proof.end(model, handled=handled[0] > 10)
