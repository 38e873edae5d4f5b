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


def _small_ops(_factor):
    # Tensors of a few dozen numbers: all of the time goes into starting operations.
    return nn.Sequential(*[Block(8) for _ in range(16)]), (1, 4, 8)


def _deep(_factor):
    layers = [layer for _ in range(120) for layer in (nn.Linear(32, 32), nn.GELU())]
    return nn.Sequential(*layers), (32, 32)


def _wide(factor):
    width = 640 * factor
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)), (64, width)


def _gpt(factor):
    return nn.Sequential(*[Block(128 * factor) for _ in range(2)]), (4 * factor, 64, 128 * factor)


MODELS = {"small-ops": _small_ops, "deep": _deep, "wide": _wide, "gpt": _gpt}
CUDA_FACTOR = 12
"""What a card has no more time for than a core for a factor of one, about."""


def training(name, device):
    """A model and the function that does one step of its training, warmed up."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # a model that has learnt its batch must not become slower
    on_cuda = device == "cuda"
    model, shape = MODELS[name](CUDA_FACTOR if on_cuda else 1)
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    batch, target = torch.randn(2, *shape, device=device)

    def step():
        optimizer.zero_grad()
        nn.functional.mse_loss(model(batch), target).backward()
        optimizer.step()
        if on_cuda:
            torch.cuda.synchronize()

    for _ in range(10):
        step()
    return model, step
