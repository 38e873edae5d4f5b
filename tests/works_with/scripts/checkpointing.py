"""Gradient checkpointing; argv[1] is reentrant or not, argv[2] whether under autocast too."""

import sys

import parts
import torch
from proof import STEPS, Proof
from torch.utils.checkpoint import checkpoint

proof = Proof()
reentrant, half = sys.argv[1] == "reentrant", sys.argv[2] == "autocast"


class Checkpointed(parts.Transformer):
    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=reentrant)
        return self.head(x)


model = Checkpointed()
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(STEPS):
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        loss = parts.next_token_loss(model, parts.tokens())
    loss.backward()
    optimizer.step()
    proof.loss(loss)
proof.end(model)
