"""The user's own TorchDispatchModes, entered and left at other places of every step.

They must see the same operations as without a probe, and be gone when they have been left.
"""

import hashlib
from contextlib import ExitStack

import parts
import torch
from proof import STEPS, Proof
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

PLACES = ("start", "loss", "backward", "step", "zero", "end")
SPANS = [(a, b) for i, a in enumerate(PLACES) for b in PLACES[i + 1 :]]
proof = Proof()


class Listen(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.heard = hashlib.sha256()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.heard.update(str(func).encode())
        self.count += 1
        return func(*args, **(kwargs or {}))


class Flops(FlopCounterMode):
    count = property(FlopCounterMode.get_total_flops)


def at(place):
    """The user enters his mode here, or leaves it: nothing is heard after that."""
    if place == span[0]:
        stack.enter_context(mode)
    if place == span[1]:
        stack.close()
        count = mode.count
        torch.ones(4, 4) @ torch.ones(4, 4)
        outside.append(mode.count - count)


model = parts.Perceptron()
optimizer = torch.optim.AdamW(model.parameters())
told, outside = hashlib.sha256(), []
for step in range(STEPS):
    x, y = parts.batch()
    span = SPANS[step % len(SPANS)]
    mode = Flops(display=False) if step % 4 == 3 else Listen()
    stack = ExitStack()
    at("start")
    out = model(x)
    at("loss")
    loss = torch.nn.functional.cross_entropy(out, y)
    at("backward")
    loss.backward()
    at("step")
    optimizer.step()
    at("zero")
    optimizer.zero_grad()
    at("end")
    told.update(f"{span} {mode.count} {getattr(mode, 'heard', told).hexdigest()}".encode())
    proof.loss(loss)
proof.end(model, told=told.hexdigest(), outside=sum(outside), spans=len(outside))
