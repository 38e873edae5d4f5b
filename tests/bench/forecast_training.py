"""A small CPU training that leaks or does not: what `record_forecast` records.

A leaking one appends its loss without detach: after its backward, of a validation that records a
graph, or with the graph retained. A healthy one appends ``loss.item()``. At its end it prints what
it held between steps, as JSON: the truth.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--leak", choices=["none", "plain", "validation", "retained"], default="none")
parser.add_argument("--seconds", type=float, default=20.0)
parser.add_argument("--least", type=int, default=150, help="steps, however long they take")
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--width", type=int, default=256)
parser.add_argument("--depth", type=int, default=3)
parser.add_argument("--sleep-s", type=float, default=0.02)
parser.add_argument("--validate-every", type=int, default=10)
parser.add_argument("--optimizer", choices=["AdamW", "SGD"], default="AdamW")
args = parser.parse_args()

torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential()
for _ in range(args.depth):
    model.extend([nn.Linear(args.width, args.width), nn.GELU()])
optimizer = getattr(torch.optim, args.optimizer)(model.parameters(), lr=1e-4)
losses, validation_losses, held = [], [], []


def loss_of():
    x = torch.randn(args.batch, args.width)
    return nn.functional.mse_loss(model(x), x)


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


ended_at = time.time() + args.seconds
step = 0
while time.time() < ended_at or step < args.least:
    step += 1
    loss = loss_of()
    optimizer.zero_grad()
    if args.leak == "retained":
        loss.backward(retain_graph=True)
        losses.append(loss)
    else:
        loss.backward()
        losses.append(loss if args.leak == "plain" else loss.item())
    optimizer.step()
    if step % args.validate_every == 0:
        if args.leak == "validation":
            validation_losses.append(loss_of())
        else:
            with torch.no_grad():
                validation_losses.append(loss_of().item())
    held.append((time.time(), step, resident_bytes()))
    time.sleep(args.sleep_s)
print(json.dumps(held[:: max(1, len(held) // 100)]))
