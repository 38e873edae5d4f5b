"""Trainings whose memory is predicted: small models of transformers, trained until they are ended.

A script for the target's Python: ``expected_training.py MODEL [--checkpointing] [--batch N] …``.
"""

import argparse
import itertools
import time

import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from vramtop.cli import demo_training

TOKENS = 128
GPT2 = GPT2Config(n_embd=192, n_layer=4, n_head=6, n_positions=TOKENS, vocab_size=4000)
LLAMA = LlamaConfig(
    hidden_size=192,
    intermediate_size=512,
    num_hidden_layers=4,
    num_attention_heads=6,
    num_key_value_heads=3,
    vocab_size=4000,
)


def make(name: str) -> torch.nn.Module:
    """The model by its name."""
    if name == "demo":
        return demo_training.build(demo_training.SIZES["cpu"])
    if name == "gpt2":
        return AutoModelForCausalLM.from_config(GPT2)
    model = AutoModelForCausalLM.from_config(LLAMA)
    if name == "lora":
        from peft import LoraConfig, get_peft_model

        targets = ["q_proj", "v_proj"]
        adapters = LoraConfig(r=8, target_modules=targets, lora_dropout=0.05, task_type="CAUSAL_LM")
        model = get_peft_model(model, adapters)
    return model


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=("demo", "gpt2", "llama", "lora"))
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--batch", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = make(args.model).train()
    if args.checkpointing:
        model.gradient_checkpointing_enable()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-3)
    vocabulary = model.config.vocab_size
    for _ in itertools.count():
        tokens = torch.randint(vocabulary, (args.batch, TOKENS))
        loss = model(input_ids=tokens, labels=tokens).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        time.sleep(0.01)  # two cores are shared


if __name__ == "__main__":
    main()
