"""An embedding with sparse gradients beside dense layers, an optimizer for each."""

import parts
import torch
from proof import STEPS, Proof
from torch import nn

proof = Proof()
model = nn.Sequential(nn.EmbeddingBag(2000, 32, mode="mean", sparse=True), nn.Linear(32, 10))
sparse = torch.optim.SparseAdam(list(model[0].parameters()))
dense = torch.optim.AdamW(model[1].parameters())
for _ in range(STEPS):
    x, y = torch.randint(2000, (64, 8)), torch.randint(10, (64,))
    loss = parts.loss_of(model, x, y)
    sparse.zero_grad()
    dense.zero_grad()
    loss.backward()
    layout = model[0].weight.grad.layout
    sparse.step()
    dense.step()
    proof.loss(loss)
proof.end(model, layout=layout)
