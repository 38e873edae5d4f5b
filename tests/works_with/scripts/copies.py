"""Copies, pickles and averages of a model in training, between its forward and its step."""

import copy
import hashlib
import io
import pickle

import parts
import torch
from proof import STEPS, Proof

proof = Proof()
model = parts.Transformer(depth=1)
optimizer = torch.optim.AdamW(model.parameters())
average = torch.optim.swa_utils.AveragedModel(
    model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
)
saved = hashlib.sha256()
for step in range(STEPS):
    x = parts.tokens()
    loss = parts.next_token_loss(model, x)
    optimizer.zero_grad()
    if step % 4 == 1:
        twin = copy.deepcopy(model)
        proof.loss(twin(x))
    if step % 4 == 2:
        proof.loss(pickle.loads(pickle.dumps(model))(x))
    if step % 4 == 3:
        file = io.BytesIO()
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
        saved.update(file.getvalue())
        file.seek(0)
        kept = torch.load(file)
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        loss = parts.next_token_loss(model, x)
    loss.backward()
    optimizer.step()
    average.update_parameters(model)
    proof.loss(loss, average(x))
proof.end(model, average, saved=saved.hexdigest())
