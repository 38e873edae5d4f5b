"""A small GPT-2 that trains until it is ended, and holds more than it should for one known reason.

A script for the target's Python: ``deviating_training.py WHICH [--device cuda]``.
"""

import argparse

import torch
from transformers import AutoModelForCausalLM, GPT2Config

TOKENS, BATCH, WORDS = 256, 2, 2000
CONFIG = GPT2Config(
    n_embd=128,
    n_layer=2,
    n_head=8,
    n_positions=TOKENS,
    vocab_size=WORDS,
    attn_pdrop=0.0,  # with dropout SDPA takes eager's path on the CPU
)
WHICH = ("healthy", "outputs", "eager", "gradients", "fp32-state")


def train(
    which: str,
    device: str = "cpu",
    steps: int | None = None,
    config: GPT2Config = CONFIG,
    batch: int = BATCH,
) -> None:
    """Train for so many steps, for ever with None."""
    attention = "eager" if which == "eager" else "sdpa"
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    model = model.to(device).train()
    if which == "fp32-state":
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    outputs = None
    step = 0
    while step != steps:
        tokens = torch.randint(config.vocab_size, (batch, config.n_positions), device=device)
        if which == "outputs":
            outputs = model(input_ids=tokens, labels=tokens)
            loss = outputs.loss
        else:
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=which != "gradients")
        if which == "fp32-state" and step == 0:
            model.bfloat16()  # after its optimizer has made its state
        step += 1
    del outputs


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("which", choices=WHICH)
    train(parser.parse_args().which)
