"""Trainings whose memory is predicted: small models of transformers, trained until they are ended.

A script for the target's Python: ``expected_training.py MODEL [--checkpointing] …``.
"""

import argparse
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


def make(name: str, attention: str) -> torch.nn.Module:
    """The model by its name."""
    if name == "demo":
        return demo_training.build(demo_training.SIZES["cpu"])
    if name == "gpt2":
        return AutoModelForCausalLM.from_config(GPT2, attn_implementation=attention)
    model = AutoModelForCausalLM.from_config(LLAMA, attn_implementation=attention)
    if name == "lora":
        from peft import LoraConfig, get_peft_model

        targets = ["q_proj", "v_proj"]
        adapters = LoraConfig(r=8, target_modules=targets, lora_dropout=0.05, task_type="CAUSAL_LM")
        model = get_peft_model(model, adapters)
    return model


def optimizer_of(name: str, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer by its name."""
    if name == "momentum":
        return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)
    return torch.optim.AdamW(parameters, lr=1e-3, foreach=True if name == "foreach" else None)


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=("demo", "gpt2", "llama", "lora"))
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--autocast", action="store_true")
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--zero-late", action="store_true", help="right before backward")
    parser.add_argument("--own-loss", action="store_true", help="outside the model")
    parser.add_argument("--optimizer", choices=("adamw", "foreach", "momentum"), default="adamw")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--attention", default="sdpa")
    args = parser.parse_args()
    device = args.device
    model = make(args.model, args.attention).train().to(device)
    if args.bf16:
        model.bfloat16()
    if args.checkpointing:
        model.gradient_checkpointing_enable()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = optimizer_of(args.optimizer, trainable)
    vocabulary = model.config.vocab_size

    def loss_of(tokens: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=args.autocast):
            if not args.own_loss:
                return model(input_ids=tokens, labels=tokens).loss
            logits = model(input_ids=tokens).logits
            return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())

    while True:
        for number in range(args.accumulate):
            tokens = torch.randint(vocabulary, (args.batch, TOKENS)).to(device)
            loss = loss_of(tokens) / args.accumulate
            if args.zero_late and not number:
                optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        if not args.zero_late:
            optimizer.zero_grad()
        time.sleep(0.01)  # the machine is shared


if __name__ == "__main__":
    main()
