"""A small GPT-2 on the CPU that runs out of memory: ``failing_gpt2.py BATCH ROOM_MIB [SECONDS]``.

It trains at batch 2, for some seconds or three steps; then its address space may grow by so much
only, and it trains at BATCH.
"""

import resource
import sys
import time
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

TOKENS, WORDS = 128, 2048
batch, room_mib = int(sys.argv[1]), int(sys.argv[2])
until = time.monotonic() + (float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)

torch.manual_seed(0)
torch.set_num_threads(1)
model = GPT2LMHeadModel(
    GPT2Config(n_layer=4, n_embd=128, n_head=4, vocab_size=WORDS, n_positions=TOKENS)
)
optimizer = torch.optim.AdamW(model.parameters())


def train(size):
    tokens = torch.randint(0, WORDS, (size, TOKENS))
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


for _ in range(3):
    train(2)
while time.monotonic() < until:
    train(2)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (room_mib << 20), resource.RLIM_INFINITY))
for _ in range(3):
    train(batch)
