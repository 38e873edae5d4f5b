"""The user's own saved-tensor hooks, each step others: none, offloading, counting, in a forward."""

import parts
import torch
from proof import STEPS, Proof
from torch.autograd.graph import disable_saved_tensors_hooks, save_on_cpu, saved_tensors_hooks

proof = Proof()
packed = [0, 0, 0]


def pack(tensor):
    packed[0] += 1
    packed[1] += tensor.nbytes
    return tensor if tensor.requires_grad else tensor.numpy().copy()


def unpack(kept):
    packed[2] += 1
    return kept if isinstance(kept, torch.Tensor) else torch.from_numpy(kept)


class Inside(parts.Transformer):
    inside = False

    def forward(self, tokens):
        if not self.inside:
            return super().forward(tokens)
        with saved_tensors_hooks(pack, unpack):
            return super().forward(tokens)


model = Inside()
optimizer = torch.optim.AdamW(model.parameters())
for step in range(STEPS):
    x = parts.tokens()
    kind = ("none", "offload", "count", "inside", "refused")[step % 5]
    model.inside = kind == "inside"
    if kind == "offload":
        with save_on_cpu():
            loss = parts.next_token_loss(model, x)
    elif kind == "count":
        with saved_tensors_hooks(pack, unpack):
            loss = parts.next_token_loss(model, x)
    elif kind == "refused":
        with disable_saved_tensors_hooks("none here"):
            loss = parts.next_token_loss(model, x)
    else:
        loss = parts.next_token_loss(model, x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    proof.loss(loss)
proof.end(model, packed=packed)
