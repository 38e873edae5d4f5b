"""Sampling with a key-value cache; argv[1] is gpt2 or llama, argv[2] whether it is trained too."""

import sys

import parts
import torch
import transformers
from proof import Proof

proof = Proof()
if sys.argv[1] == "gpt2":
    sizes = {"n_layer": 3, "n_head": 4, "n_embd": 128, "vocab_size": 200, "n_positions": 128}
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=None)
    )
else:
    sizes = {"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            **sizes,
            hidden_size=128,
            intermediate_size=256,
            vocab_size=200,
            max_position_embeddings=128,
            bos_token_id=0,
            eos_token_id=None,
        )
    )


class Remember(transformers.StoppingCriteria):
    """Every token takes its time."""

    def __call__(self, ids, scores, **kwargs):
        proof.loss(ids[:, -1])
        return torch.zeros(len(ids), dtype=torch.bool)


def generate():
    model.eval()
    model.generate(
        parts.tokens(16, 32),
        attention_mask=torch.ones(16, 32, dtype=torch.long),
        do_sample=True,
        max_new_tokens=50,
        pad_token_id=0,
        stopping_criteria=[Remember()],
    )


if sys.argv[2] == "trained":
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(8):
        model.train()
        for _ in range(4):
            x = parts.tokens()
            loss = model(input_ids=x, labels=x).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            proof.loss(loss)
        if step % 4 == 3:
            generate()
else:
    if "_vramtop_injected" in sys.modules:  # inference alone has to tell of its model
        import vramtop

        vramtop.watch(model)
    for _ in range(3):
        generate()
proof.end(model)
