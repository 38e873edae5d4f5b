"""Trainings whose memory ends where they are told to: ``oom_training.py FOLDER WHERE...``.

Each in a fork of its own, one after the other, with its stderr in FOLDER/WHERE and its exit code on
stdout; with "-" as FOLDER the only one, in this process, after a line on stdin.

The third block is wider than the others, so that a batch that is large enough fails there, and the
sizes of what it asks for can be counted by hand: batch x WIDE x 4 bytes.
"""

import os
import resource
import sys
import threading
from pathlib import Path

import torch
from torch import nn

WIDE = 8192
MIB = 1 << 20


class Block(nn.Module):
    def __init__(self, wide):
        super().__init__()
        self.up = nn.Linear(64, wide)
        self.down = nn.Linear(wide, 64)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(x)))


def limit(room_mib):
    """From now on the process gets so much address space beyond what it has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room_mib * MIB, resource.RLIM_INFINITY))


def train(batch):
    loss = model(torch.randn(batch, 64)).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


folder, *wheres = sys.argv[1:]
torch.set_num_threads(1)
torch.manual_seed(0)
model = nn.Sequential(Block(128), Block(128), Block(WIDE), Block(128))
optimizer = torch.optim.AdamW(model.parameters())
train(4)  # what this imports is not imported in every child
for where in wheres:
    if folder == "-":
        break
    sys.stdout.flush()
    child = os.fork()
    if not child:
        descriptor = os.open(f"{folder}/{where}", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(descriptor, 2)
        break
    print(where, child, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()

if "hooks" in where:

    def of_the_users(kind, value, trace):
        print("the user's hook:", kind.__name__, file=sys.stderr)

    def of_the_users_threads(args):
        print("the user's hook:", args.exc_type.__name__, args.thread.name, file=sys.stderr)

    sys.excepthook = of_the_users
    threading.excepthook = of_the_users_threads

for _ in range(11):
    train(4)
if folder == "-":
    print("trained", flush=True)
    sys.stdin.readline()

if where.startswith("forward"):
    limit(256)
    train(32768)  # 1 GiB in the third block's `up`
elif where == "backward":
    limit(352)
    train(4096)  # 128 MiB there, of which forward holds two at most and backward needs three
elif where == "step":
    wide = nn.Parameter(torch.zeros(8 * MIB * 2))  # 64 MiB
    second = torch.optim.Adam([wide])
    wide.square().sum().backward()
    limit(48)
    second.step()  # its first makes two states of that size
elif where == "user":
    limit(256)
    bytearray(1 << 30)
elif where.startswith("thread"):
    limit(256)
    thread = threading.Thread(target=train, args=(32768,), name="of training")
    thread.start()
    thread.join()
    train(4)
elif where == "caught, then forward":
    limit(320)
    batch = 131072
    while True:
        try:
            train(batch)
            break
        except RuntimeError:
            batch //= 8
    print("went on with", batch, flush=True)
    sys.stdin.readline()
    train(32768)
elif where == "caught, trained on, caught":
    limit(256)
    for batch in (32768, 4, 32768):
        try:
            train(batch)
        except RuntimeError:
            pass
elif where == "caught, told by the user":
    limit(256)
    try:
        train(32768)
    except RuntimeError:
        sys.exit(1)
elif where == "silent":
    raise ValueError("no memory was asked for")
