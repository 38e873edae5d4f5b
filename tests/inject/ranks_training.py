"""A DDP training of one process a rank, until the file in argv[1] appears; prints its pid."""

import gc
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

stop = Path(sys.argv[1])
torch.set_num_threads(1)
dist.init_process_group("gloo")
model = nn.parallel.DistributedDataParallel(nn.Linear(64, 64))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
os.write(1, f"{dist.get_rank()} {os.getpid()}\n".encode())  # in one piece: the ranks share it
while True:
    optimizer.zero_grad()
    model(torch.randn(8, 64)).sum().backward()
    optimizer.step()
    # All ranks end at the same step, or one would wait for the other for ever.
    end = torch.tensor(float(stop.exists()))
    dist.all_reduce(end)
    if end:
        break
    time.sleep(0.01)
# Gloo's threads must end before the interpreter does: they abort a process that is being finalised
# (pytorch/pytorch pull request 179291), and the model's reducer would keep them until then.
del model, optimizer, end
gc.collect()
dist.destroy_process_group()
