"""The trainings that costs are measured on, about 10 ms a step on one core each."""

import torch
from torch import nn


class Block(nn.Module):
    """One transformer block."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        q, k, v = self.mix(self.norm(x)).chunk(3, -1)
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


def _small_ops():
    # Tensors of a few dozen numbers: all of the time goes into starting operations.
    return nn.Sequential(*[Block(8) for _ in range(16)]), (1, 4, 8)


def _deep():
    layers = [layer for _ in range(120) for layer in (nn.Linear(32, 32), nn.GELU())]
    return nn.Sequential(*layers), (32, 32)


def _wide():
    return nn.Sequential(nn.Linear(640, 640), nn.GELU(), nn.Linear(640, 640)), (64, 640)


def _gpt():
    return nn.Sequential(*[Block(128) for _ in range(2)]), (4, 64, 128)


MODELS = {"small-ops": _small_ops, "deep": _deep, "wide": _wide, "gpt": _gpt}


def training(name, device="cpu"):
    """A model and the function that does one step of its training, warmed up."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # a model that has learnt its batch must not become slower
    model, shape = MODELS[name]()
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    batch, target = torch.randn(2, *shape, device=device)

    def step():
        optimizer.zero_grad()
        nn.functional.mse_loss(model(batch), target).backward()
        optimizer.step()

    for _ in range(10):
        step()
    return model, step
