"""FAKE descriptions for the fake source: what its trainings train, a GPT-2 medium with AdamW."""

from __future__ import annotations

from typing import Final

from ..core.model import ModelInfo, OptimizerInfo

BATCH_SHAPES: Final = ((8, 1024), (8, 1024))
_LAYERS: Final = 24
_PARAMETERS: Final = 354_823_168


def model(*, is_rank: bool) -> ModelInfo:
    """The model, ``is_rank`` in DistributedDataParallel."""
    tensors = 12 * _LAYERS + 4  # two embeddings and the last norm beside the layers
    return ModelInfo(
        class_name="GPT2LMHeadModel",
        parameters=_PARAMETERS,
        trainable_parameters=_PARAMETERS,
        parameters_by_dtype={"float32": _PARAMETERS},
        batch_shapes=BATCH_SHAPES,
        hf_config={
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "n_embd": 1024,
            "n_layer": _LAYERS,
            "n_head": 16,
            "n_positions": 1024,
            "vocab_size": 50257,
        },
        trainable_by_dtype={"float32": _PARAMETERS},
        tensors=tensors,
        trainable_tensors=tensors,
        arguments=("input_ids", "labels"),
        training=True,
        autocast="bfloat16",
        attention="sdpa",
        checkpointing=False,
        wrappers=("DistributedDataParallel",) if is_rank else (),
    )


def optimizer(step: int) -> OptimizerInfo:
    """The optimizer after so many steps."""
    return OptimizerInfo(
        "AdamW",
        step,
        {"lr": 3e-4, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01},
        module="torch.optim.adamw",
        state_by_dtype={"float32": 2 * _PARAMETERS},
        parameters=_PARAMETERS,
    )
