"""A timer interrupts steps wherever they are; a training after that is as if nothing had been."""

import contextlib
import random
import signal
import time

import parts
import torch
from proof import PAUSE_S, Proof
from torch.utils._python_dispatch import _len_torch_dispatch_stack


def interrupt(*_):
    raise KeyboardInterrupt


def train(steps):
    model = parts.Transformer(depth=2)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(steps):
        loss = parts.next_token_loss(model, parts.tokens())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        proof.loss(loss)
    return model


proof = Proof()
train(3)
signal.signal(signal.SIGALRM, interrupt)
until, interrupts = time.monotonic() + 100 * PAUSE_S, 0
while time.monotonic() < until or interrupts < 20:
    with contextlib.suppress(KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.001, 0.1))
        train(1000)
    interrupts += 1
    torch.set_grad_enabled(True)  # an interrupt inside torch's own step may have left it off
signal.setitimer(signal.ITIMER_REAL, 0)
proof = Proof()
proof.end(train(50))
print("modes", max(0, _len_torch_dispatch_stack() - 1))
