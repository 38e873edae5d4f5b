"""Two models against each other: a generator and a critic with an optimizer each."""

import torch
from proof import STEPS, Proof
from torch import nn

proof = Proof()
generator = nn.Sequential(nn.Linear(32, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 128))
critic = nn.Sequential(nn.Linear(128, 256), nn.LeakyReLU(), nn.Dropout(0.1), nn.Linear(256, 1))
g_optimizer = torch.optim.Adam(generator.parameters())
c_optimizer = torch.optim.Adam(critic.parameters())
for _ in range(STEPS):
    fake = generator(torch.randn(64, 32))
    c_loss = critic(fake.detach()).mean() - critic(torch.randn(64, 128)).mean()
    c_optimizer.zero_grad()
    c_loss.backward()
    c_optimizer.step()
    g_loss = -critic(fake).mean()
    g_optimizer.zero_grad()
    g_loss.backward()
    g_optimizer.step()
    proof.loss(c_loss, g_loss)
proof.end(generator, critic)
