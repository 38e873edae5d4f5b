"""Trainings whose tensors are MiBs, so that a share of them means something.

Imported by the process that is probed and by the one that is profiled: both train the same.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

MODES = ("fp32", "autocast", "checkpoint", "checkpoint-reentrant")
VOCABULARY = 2000
TOKENS = (4, 128)


@dataclass(frozen=True)
class Case:
    """A model, its optimizer, its batch, and the loss as the user's loop computes it."""

    make: Callable[[], nn.Module]
    optimize: Callable[[nn.Module], torch.optim.Optimizer]
    batch: Callable[[], dict[str, torch.Tensor]]
    run: Callable[[nn.Module, dict[str, torch.Tensor]], tuple[torch.Tensor, Any]]
    """(loss, what else the loop keeps of the step)."""
    set_to_none: bool = True


def tokens(labels: bool = True) -> dict[str, torch.Tensor]:
    ids = torch.randint(0, VOCABULARY, TOKENS)
    return {"input_ids": ids, "labels": ids.clone()} if labels else {"input_ids": ids}


def classes(batch: int, *shape: int, number: int = 10) -> dict[str, torch.Tensor]:
    return {"x": torch.randn(batch, *shape), "y": torch.randint(0, number, (batch,))}


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)


def grouped_adamw(model: nn.Module) -> torch.optim.Optimizer:
    """Over all parameters at once, as on a GPU: its intermediates are as large as they."""
    return torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=True)


def momentum(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)


def keeps_output(model, batch):
    """The usual loop: the output lives until the next step's."""
    output = model(**batch)
    return output.loss, output


def keeps_loss(model, batch):
    return model(**batch).loss, None


def classifies(model, batch):
    logits = model(batch["x"])
    return functional.cross_entropy(logits, batch["y"]), None


def gpt2(attention: str) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=128,
        bos_token_id=0,
        eos_token_id=0,
        n_embd=128,
        n_layer=2,
        n_head=4,
        use_cache=False,
    )
    config._attn_implementation = attention
    return GPT2LMHeadModel(config)


def llama(attention: str) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        use_cache=False,
    )
    config._attn_implementation = attention
    return LlamaForCausalLM(config)


class Encoder(nn.Module):
    """BERT's shape: embeddings, encoder layers with dropout, a pooled classifier."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        config = BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=512,
            max_position_embeddings=128,
        )
        self.bert = BertModel(config)
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        return self.head(self.bert(input_ids=x).pooler_output)


def vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=512,
        image_size=64,
        patch_size=8,
        num_labels=10,
    )
    return ViTForImageClassification(config)


class Blocks(nn.Module):
    """Blocks one after the other, each a checkpoint if told so."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.reentrant: bool | None = None

    def forward(self, x):
        for block in self.blocks:
            # A reentrant checkpoint of what needs no gradient would give the block none.
            if self.reentrant is None or (self.reentrant and not x.requires_grad):
                x = block(x)
            else:
                x = checkpoint(block, x, use_reentrant=self.reentrant)
        return x


def convnet() -> nn.Module:
    def block(inside: int, outside: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inside, outside, 3, padding=1),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
            nn.Conv2d(outside, outside, 3, padding=1, stride=2),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
        )

    head = nn.Sequential(nn.Flatten(), nn.Linear(64 * 8 * 8, 10))
    return Blocks(block(3, 16), block(16, 32), block(32, 64), head)


class RandomFeatures(nn.Module):
    """A fixed projection: a buffer large enough to be seen."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.register_buffer("projection", torch.randn(inside, outside))

    def forward(self, x):
        return torch.cos(x @ self.projection)


def mlp() -> nn.Module:
    def block(inside: int, outside: int) -> nn.Module:
        return nn.Sequential(nn.Linear(inside, outside), nn.GELU(), nn.Dropout(0.1))

    first = nn.Sequential(RandomFeatures(256, 1024), nn.Linear(1024, 1024))
    return Blocks(first, block(1024, 512), block(512, 512), nn.Linear(512, 10))


def wide() -> nn.Module:
    """More parameters than activations."""
    return Blocks(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.Linear(1024, 10))


class Recurrent(nn.Module):
    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inside, outside, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0]


class Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(256, 10)

    def forward(self, x):
        return self.head(x[:, -1])


def lstm() -> nn.Module:
    return Blocks(Recurrent(128, 256), Recurrent(256, 256), Last())


class LowRank(nn.Module):
    """A frozen linear layer with a trained low-rank part beside it."""

    def __init__(self, inside: int, outside: int, rank: int = 16) -> None:
        super().__init__()
        self.base = nn.Linear(inside, outside).requires_grad_(False)
        self.down = nn.Linear(inside, rank, bias=False)
        self.up = nn.Linear(rank, outside, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


def lora() -> nn.Module:
    def block(inside: int, outside: int) -> nn.Module:
        return nn.Sequential(LowRank(inside, outside), nn.GELU())

    return Blocks(block(256, 1024), block(1024, 1024), block(1024, 512), LowRank(512, 10))


def encoded() -> dict[str, torch.Tensor]:
    return {"x": torch.randint(0, VOCABULARY, (8, 64)), "y": torch.randint(0, 10, (8,))}


def pictures() -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(8, 3, 64, 64), "labels": torch.randint(0, 10, (8,))}


CASES = {
    "gpt2-eager": Case(lambda: gpt2("eager"), adamw, tokens, keeps_loss, set_to_none=False),
    "gpt2-sdpa": Case(lambda: gpt2("sdpa"), adamw, tokens, keeps_output),
    "llama-sdpa": Case(lambda: llama("sdpa"), adamw, tokens, keeps_loss),
    "bert": Case(Encoder, adamw, encoded, classifies),
    "vit": Case(vit, adamw, pictures, keeps_loss),
    "convnet": Case(convnet, momentum, lambda: classes(16, 3, 64, 64), classifies),
    "mlp": Case(mlp, momentum, lambda: classes(512, 256), classifies, set_to_none=False),
    "wide": Case(wide, grouped_adamw, lambda: classes(64, 512), classifies),
    "lstm": Case(lstm, adamw, lambda: classes(16, 64, 128), classifies),
    "lora": Case(lora, adamw, lambda: classes(512, 256), classifies),
}


def use_checkpoints(model: nn.Module, reentrant: bool) -> None:
    for module in model.modules():
        if isinstance(module, Blocks):
            module.reentrant = reentrant
        elif hasattr(module, "gradient_checkpointing_enable"):
            module.gradient_checkpointing_enable({"use_reentrant": reentrant})
            return


class Training:
    """A case in one of ``MODES``, trained by a plain loop."""

    def __init__(self, case: str, mode: str) -> None:
        torch.manual_seed(1)
        self.case = CASES[case]
        self.model = self.case.make().train()
        if mode.startswith("checkpoint"):
            use_checkpoints(self.model, mode == "checkpoint-reentrant")
        self.precision: Callable[[], Any] = contextlib.nullcontext
        if mode == "autocast":
            self.precision = functools.partial(torch.autocast, "cpu", torch.bfloat16)
        self.optimizer = self.case.optimize(self.model)
        self.kept: Any = None

    def train(self, steps: int, mark: Callable[[str], None] = lambda name: None) -> None:
        """``mark`` is told where each step is: the names are those of the phase that ended."""
        for _ in range(steps):
            mark("begin")
            batch = self.case.batch()
            with self.precision():
                loss, self.kept = self.case.run(self.model, batch)
            mark("forward")
            loss.backward()
            mark("backward")
            self.optimizer.step()
            mark("step")
            self.optimizer.zero_grad(set_to_none=self.case.set_to_none)
            mark("zero_grad")
