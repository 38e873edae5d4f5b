"""KeyboardInterrupt in forward, backward, optimizer: caught in the loop, at the end not."""

import signal
import sys

import parts
import torch
from proof import STEPS, Proof

proof = Proof()
model = parts.Perceptron()
optimizer = torch.optim.AdamW(model.parameters())
now = None


def interrupt(where):
    def hook(*_):
        if now == where:
            signal.raise_signal(signal.SIGINT)

    return hook


model.layers[3].register_forward_hook(interrupt("forward"))
model.layers[3].weight.register_hook(interrupt("backward"))
optimizer.register_step_pre_hook(interrupt("step"))
caught = 0
for step in range(STEPS):
    now = {3: "forward", 6: "backward", 9: "step"}.get(step % 10)
    try:
        loss = parts.loss_of(model, *parts.batch())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        proof.loss(loss)
    except KeyboardInterrupt:
        caught += 1
proof.end(model, caught=caught)
sys.stdout.flush()
now = sys.argv[1]
while True:
    parts.loss_of(model, *parts.batch()).backward()
    optimizer.step()
