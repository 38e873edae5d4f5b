"""A training with Accelerate that vramtop explains: the line with ``vramtop.watch`` is all.

Run it with ``accelerate launch examples/accelerate_training.py`` or plain ``python``, on a GPU or
on the CPU, and ``vramtop`` in the next terminal.
"""

import argparse

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import vramtop

WIDTH, CLASSES, BATCH = 256, 10, 32


def main() -> None:
    """Fit random labels for some steps and print the losses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    steps = parser.parse_args().steps

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, CLASSES))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    data = TensorDataset(torch.randn(4096, WIDTH), torch.randint(CLASSES, (4096,)))
    loader = DataLoader(data, batch_size=BATCH, shuffle=True)

    accelerator = Accelerator()
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    vramtop.watch(model, optimizer)

    step = 0
    while step < steps:
        for inputs, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), labels)
            accelerator.backward(loss)
            optimizer.step()
            step += 1
            if step % 100 == 0 or step == steps:
                accelerator.print(f"step {step}: loss {loss.item():.6f}", flush=True)
            if step == steps:
                break
    accelerator.end_training()


if __name__ == "__main__":
    main()
