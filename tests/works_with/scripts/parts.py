"""Models and batches for the scripts: small, and with random batches and dropout."""

import torch
from torch import nn


class Perceptron(nn.Module):
    def __init__(self, width=256, depth=3):
        super().__init__()
        layers = [nn.Linear(64, width), nn.GELU(), nn.Dropout(0.1)]
        for _ in range(depth):
            layers += [nn.Linear(width, width), nn.GELU(), nn.Dropout(0.1)]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 10))

    def forward(self, x):
        return self.layers(x)


def convnet():
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.1)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)),
    )


class Block(nn.Module):
    """One residual block of a transformer."""

    def __init__(self, width=64):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        normed = self.norm(x)
        x = x + self.dropout(self.attention(normed, normed, normed, need_weights=False)[0])
        return x + self.dropout(self.mlp(x))


class Transformer(nn.Module):
    def __init__(self, depth=3, vocabulary=200, width=64):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def batch(size=64):
    return torch.randn(size, 64), torch.randint(10, (size,))


def images(size=16):
    return torch.randn(size, 3, 16, 16), torch.randint(10, (size,))


def tokens(size=8, length=32):
    return torch.randint(200, (size, length))


def loss_of(model, x, y):
    return nn.functional.cross_entropy(model(x), y)


def next_token_loss(model, x):
    return nn.functional.cross_entropy(model(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())
