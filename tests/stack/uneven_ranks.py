"""A DDP training whose rank 1 has the larger batch, until the file in argv[1] appears."""

import gc
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

WIDTH = 1024
stop = Path(sys.argv[1])


class Scale(nn.Module):
    """Much memory for little arithmetic."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, inputs):
        return (inputs * self.weight).mean()


torch.set_num_threads(1)
dist.init_process_group("gloo")
rank = dist.get_rank()
model = nn.parallel.DistributedDataParallel(Scale())
optimizer = torch.optim.AdamW(model.parameters())
batch = torch.ones((65536, 64)[rank == 0], WIDTH)  # 256 MiB, and as much in forward
print("rank", rank, flush=True)
while True:
    optimizer.zero_grad()
    model(batch).backward()
    optimizer.step()
    end = torch.tensor(float(stop.exists()))
    dist.all_reduce(end)  # all ranks end at the same step, or one would wait for ever
    if end:
        break
    time.sleep(0.05)
# Gloo's threads must end before the interpreter does.
del model, optimizer, end
gc.collect()
dist.destroy_process_group()
