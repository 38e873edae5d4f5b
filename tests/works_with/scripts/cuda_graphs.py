"""Whole steps in a CUDA graph: captured once, then replayed; and a model of graphed callables."""

import parts
import torch
from proof import STEPS, Proof

proof = Proof()
model = parts.Perceptron().cuda()
optimizer = torch.optim.AdamW(model.parameters(), capturable=True)
x, y = (value.cuda() for value in parts.batch())


def step():
    optimizer.zero_grad()
    loss = parts.loss_of(model, x, y)
    loss.backward()
    optimizer.step()
    return loss


side = torch.cuda.Stream()
side.wait_stream(torch.cuda.current_stream())
with torch.cuda.stream(side):
    for _ in range(5):
        step()
torch.cuda.current_stream().wait_stream(side)
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    loss = step()
for _ in range(STEPS):
    for static, value in zip((x, y), parts.batch(), strict=True):
        static.copy_(value)
    graph.replay()
    proof.loss(loss)

other = parts.Perceptron().cuda()
graphed = torch.cuda.make_graphed_callables(other, (x,))
optimizer = torch.optim.AdamW(other.parameters())
for _ in range(STEPS):
    x, y = (value.cuda() for value in parts.batch())
    loss = parts.loss_of(graphed, x, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    proof.loss(loss)
proof.end(model, other)
