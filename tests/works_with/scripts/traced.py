"""Tracers at work in the middle of a training: export, make_fx, jit, fx, fake tensors."""

import hashlib

import parts
import torch
from proof import STEPS, Proof
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

proof = Proof()
model = parts.Perceptron()
optimizer = torch.optim.AdamW(model.parameters())
graphs = {}


def fake(x):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        return str(model(mode.from_tensor(x)))


TRACERS = {
    "export": lambda x: torch.export.export(model, (x,)).graph_module.code,
    "make_fx": lambda x: make_fx(model)(x).code,
    "jit": lambda x: str(torch.jit.trace(model, x, check_trace=False).inlined_graph),
    "fx": lambda x: torch.fx.symbolic_trace(model).code,
    "fake": fake,
}
for step in range(STEPS):
    x, y = parts.batch()
    loss = parts.loss_of(model, x, y)
    optimizer.zero_grad()
    if step % 5 == 4:
        name = list(TRACERS)[step // 5 % len(TRACERS)]
        model.eval()
        text = TRACERS[name](x)
        graphs.setdefault(name, set()).add(hashlib.sha256(text.encode()).hexdigest())
        model.train()
    loss.backward()
    optimizer.step()
    proof.loss(loss)
proof.end(model, graphs={name: sorted(found) for name, found in graphs.items()})
