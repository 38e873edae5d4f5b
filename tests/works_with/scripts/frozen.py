"""A frozen teacher under no_grad beside a student, and a frozen backbone below a head."""

import parts
import torch
from proof import STEPS, Proof
from torch import nn

proof = Proof()
teacher = parts.Perceptron(512).eval().requires_grad_(False)
backbone = parts.Perceptron()
head = nn.Linear(10, 10)
optimizer = torch.optim.AdamW(head.parameters())
for _ in range(STEPS):
    x, _ = parts.batch()
    with torch.no_grad():
        wanted = teacher(x).softmax(-1)
        features = backbone(x)
    loss = nn.functional.cross_entropy(head(features), wanted)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    proof.loss(loss)
proof.end(teacher, backbone, head)
