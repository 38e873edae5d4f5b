"""What other published estimators say, by their own definitions; written anew from their sources.

Each takes a workload and gives bytes on one GPU, or None where it has nothing to say about it.
"""

from __future__ import annotations

import functools
import json
import math
from typing import Any

from vramtop.estimator.workload import Model, Workload


def accelerate(workload: Workload) -> int | None:
    """``accelerate estimate-memory``: with its own functions on a meta model.

    Loading: total size in the dtype. "Training using Adam": the largest of its four figures
    (accelerate/commands/estimate.py, gather_data and estimate_command). It knows nothing of
    several GPUs, LoRA, batch or sequence.
    """
    from accelerate.commands.estimate import estimate_training_usage

    size = _fp32_bytes(_key(workload.model), workload.model.auto_class)
    dtype = {"fp32": "float32", "nf4": "int4", "int4": "int4", "int8": "int8"}.get(
        workload.precision, "float16"
    )
    if workload.training:
        usage = estimate_training_usage(size, "float32" if dtype == "float32" else "float16")
        return int(max(usage.values()))
    return size // {"float32": 1, "float16": 2, "int8": 4, "int4": 8}[dtype]


@functools.lru_cache
def _fp32_bytes(key: str, auto_class: str) -> int:
    from accelerate.utils import calculate_maximum_sizes

    return int(calculate_maximum_sizes(_meta_model(key, auto_class))[0])


@functools.lru_cache
def _largest_layer(key: str, auto_class: str) -> tuple[int, int]:
    """(all parameters, most parameters of one module), as DeepSpeed's model_to_params counts."""
    module = _meta_model(key, auto_class)
    total = sum(parameter.numel() for parameter in module.parameters())
    largest = max(
        sum(p.numel() for p in child.parameters(recurse=False)) for child in module.modules()
    )
    return total, largest


@functools.lru_cache(maxsize=2)
def _meta_model(key: str, auto_class: str) -> Any:
    import torch
    import transformers

    arguments = json.loads(key)
    config = transformers.AutoConfig.for_model(arguments.pop("model_type"), **arguments)
    with torch.device("meta"):
        return getattr(transformers, auto_class).from_config(config)


def _key(model: Model) -> str:
    return json.dumps(model.config, sort_keys=True)


def deepspeed(workload: Workload) -> int | None:
    """DeepSpeed's memory estimators, without offload.

    deepspeed/runtime/zero: ``estimate_zero2_model_states_mem_needs`` (2 and, divided, 18 bytes a
    parameter) and ``estimate_zero3_model_states_mem_needs`` (18 divided, and the largest layer at
    4). On one GPU people ask the former. Training only, model states only.
    """
    if not workload.training:
        return None
    total, largest = _largest_layer(_key(workload.model), workload.model.auto_class)
    gpus = workload.parallel.gpus
    if workload.parallel.zero == 3:
        return 4 * largest + 18 * total // gpus
    return 2 * total + 18 * total // gpus


def megatron(workload: Workload) -> int | None:
    """Megatron-LM's theoretical memory report.

    megatron/training/theoretical_memory_utilization.py: 18 bytes a parameter of the fullest stage
    (6 and, divided by the data parallel degree, 12 with its distributed optimizer), and
    activations after table 2 of Korthikanti et al. 2022 with sequence parallelism and selective
    recomputation: s·b·h·(18 + 4·ffn/h) a layer. Decoders in training only.
    """
    config = workload.model.config or {}
    hidden, layers = config.get("hidden_size"), config.get("num_hidden_layers")
    heads = config.get("num_attention_heads")
    if not (workload.training and hidden and layers and heads):
        return None
    parallel = workload.parallel
    groups = config.get("num_key_value_heads") or heads
    ffn = config.get("intermediate_size") or 4 * hidden
    gated = 1.5 if config["model_type"] in ("llama", "mistral", "gemma", "gemma2", "phi3") else 1
    width = (config.get("head_dim") or hidden // heads) * heads
    blocks = (
        2
        * layers
        * hidden**2
        * ((1 + groups / heads) * width / hidden + ffn / hidden * gated + 2 / hidden)
    ) + hidden * 2
    embedding = hidden * config["vocab_size"]
    fullest = blocks / parallel.pipeline + embedding
    if parallel.pipeline == 1 and not config.get("tie_word_embeddings", False):
        fullest += embedding
    each = 6 + 12 / (parallel.data * parallel.context) if parallel.zero else 18
    states = fullest / parallel.tensor * each
    tokens = workload.sequence * workload.batch
    stages = parallel.pipeline
    activations = tokens * hidden * (18 + 4 * ffn / hidden) * layers
    activations += 8 * tokens * stages + tokens * hidden * stages
    if parallel.virtual_pipeline > 1:
        activations *= 1 + (stages - 1) / (stages * parallel.virtual_pipeline)
    elif stages > 1:
        activations *= min(1, (parallel.micro_batches or stages) / stages)
    if stages == 1:
        activations += tokens * hidden * 4 * (1 + config["vocab_size"] / hidden)
    return math.ceil(states + activations / parallel.tensor)
