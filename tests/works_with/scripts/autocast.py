"""Mixed precision; argv[1] is bfloat16, or float16 with a scaler whose first steps overflow."""

import sys

import parts
import torch
from proof import STEPS, Proof

proof = Proof()
half = getattr(torch, sys.argv[1])
model = parts.Transformer()
optimizer = torch.optim.AdamW(model.parameters())
scaler = torch.amp.GradScaler("cpu", enabled=half is torch.float16, init_scale=2.0**24)
for _ in range(STEPS):
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=half):
        loss = parts.next_token_loss(model, parts.tokens())
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    proof.loss(loss)
proof.end(model, scale=scaler.get_scale(), autocast=torch.is_autocast_enabled("cpu"))
