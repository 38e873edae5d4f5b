"""Low-rank adapters on a frozen model; argv[1] is peft, or module for a class of our own."""

import sys

import parts
import torch
from proof import STEPS, Proof
from torch import nn

proof = Proof()


class Adapted(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base = base
        self.a = nn.Parameter(torch.randn(4, base.in_features) / 8)
        self.b = nn.Parameter(torch.zeros(base.out_features, 4))

    def forward(self, x):
        return self.base(x) + x @ self.a.T @ self.b.T


if sys.argv[1] == "peft":
    import peft
    import transformers

    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 64, "vocab_size": 200, "n_positions": 64}
    base = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, use_cache=False))
    settings = peft.LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True)
    model = peft.get_peft_model(base, settings)

    def loss_of(x):
        return model(input_ids=x, labels=x).loss
else:
    model = parts.Transformer().requires_grad_(False)
    for block in model.blocks:
        block.mlp[0], block.mlp[2] = Adapted(block.mlp[0]), Adapted(block.mlp[2])

    def loss_of(x):
        return parts.next_token_loss(model, x)


trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=0.01)
for _ in range(STEPS):
    loss = loss_of(parts.tokens())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    proof.loss(loss)
proof.end(model, trained=sum(p.numel() for p in trained))
