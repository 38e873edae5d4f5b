"""A training in a thread that is not the main one; argv[1] of them at a time, a model each."""

import sys
import threading

import parts
import torch
from proof import PAUSE_S, STEPS, Proof, raw
from torch import nn

proof = Proof()


def train(number, results):
    # Threads share torch's own generator, so in several each has one of its own and no dropout.
    generator = torch.Generator().manual_seed(number)
    model, losses = models[number], []
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(STEPS):
        x = torch.randn(64, 64, generator=generator)
        loss = parts.loss_of(model, x, torch.randint(10, (64,), generator=generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        pause.wait(PAUSE_S)
    results[number] = losses


pause = threading.Event()
models = [parts.Perceptron() for _ in range(int(sys.argv[1]))]
if len(models) > 1:
    for module in nn.ModuleList(models).modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
results = {}
threads = [threading.Thread(target=train, args=(n, results)) for n in range(len(models))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for number in sorted(results):
    print(number, b"".join(map(raw, results[number])).hex()[-64:])
proof.end(*models)
