"""Three optimizers on one model, with schedulers; one of them steps every second time."""

import parts
import torch
from proof import STEPS, Proof

proof = Proof()
model = parts.Transformer()
optimizers = [
    torch.optim.SGD(model.embedding.parameters(), lr=0.1, momentum=0.9),
    torch.optim.AdamW(model.blocks.parameters()),
    torch.optim.RMSprop(model.head.parameters()),
]
schedules = [torch.optim.lr_scheduler.StepLR(o, 20) for o in optimizers]
for step in range(STEPS):
    loss = parts.next_token_loss(model, parts.tokens())
    loss.backward()
    for optimizer in optimizers[: 2 if step % 2 else 3]:
        optimizer.step()
        optimizer.zero_grad()
    for schedule in schedules:
        schedule.step()
    proof.loss(loss)
proof.end(model)
