"""The training that ``vramtop demo`` and the benchmarks watch: a small GPT, built from a config.

A script for the target's Python: it needs torch and transformers only, and knows nothing of
vramtop. Prints ``step N loss L seconds S``, with the step's wall time, to the precision that a
float32 has.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from dataclasses import dataclass

import torch
from transformers import GPT2Config, GPT2LMHeadModel

VOCABULARY = 8192
_CPU_THREADS = 4


@dataclass(frozen=True)
class Size:
    """Model and batch: big enough for each category to be seen, small enough to step quickly."""

    width: int
    layers: int
    heads: int
    tokens: int
    sequences: int


SIZES = {
    "cpu": Size(width=256, layers=6, heads=8, tokens=128, sequences=2),
    "cuda": Size(width=768, layers=12, heads=12, tokens=512, sequences=8),
}


def build(size: Size) -> GPT2LMHeadModel:
    """A GPT-2 with random weights; downloads nothing."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=size.tokens,
            n_embd=size.width,
            n_layer=size.layers,
            n_head=size.heads,
            use_cache=False,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def batch(size: Size, device: str) -> torch.Tensor:
    """Sequences that count upwards from a random token: cheap to make, and can be learned."""
    start = torch.randint(VOCABULARY, (size.sequences, 1))
    return ((start + torch.arange(size.tokens)) % VOCABULARY).to(device)


def train(device: str, steps: int | None, print_every: int) -> None:
    """Train for so many optimizer steps, for ever with None."""
    size = SIZES[device]
    model = build(size).to(device)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    for step in itertools.count(1):
        started = time.perf_counter()
        tokens = batch(size, device)
        loss = model(input_ids=tokens, labels=tokens).loss
        # Here, so that the gradients are there to be seen for most of the step.
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % print_every == 0:
            value = loss.item()  # waits for the GPU, so the time below is the step's
            seconds = time.perf_counter() - started
            print(f"step {step} loss {value:.9g} seconds {seconds:.4f}", flush=True)
        if step == steps:
            return


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train a small GPT on synthetic tokens.")
    parser.add_argument("--device", choices=sorted(SIZES), help="default: cuda if there is one")
    parser.add_argument("--steps", type=int, help="default: until it is ended")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--print-every", type=int, default=1, metavar="STEPS")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    # A demo shall not take the whole machine, least of all from the screen that shows it.
    torch.set_num_threads(max(1, min(_CPU_THREADS, (os.cpu_count() or 1) - 1)))
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    train(device, args.steps, args.print_every)


if __name__ == "__main__":
    main()
