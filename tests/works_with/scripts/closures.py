"""L-BFGS, whose step calls forward and backward many times; and SGD with a closure."""

import parts
import torch
from proof import STEPS, Proof

proof = Proof()
model, other = parts.Perceptron(64, 1), parts.Perceptron(64, 1)
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
simple = torch.optim.SGD(other.parameters(), lr=0.1)
for _ in range(STEPS):
    x, y = parts.batch()

    def closure(model, optimizer, x=x, y=y):
        optimizer.zero_grad()
        loss = parts.loss_of(model, x, y)
        loss.backward()
        return loss

    first = optimizer.step(lambda: closure(model, optimizer))
    second = simple.step(lambda: closure(other, simple))
    proof.loss(first, second)
proof.end(model, other)
