"""How each source's rows become workloads, one function a source, with what the source says.

A function gives a workload, or in words why there is none. What the stacks do differently from
plain PyTorch is in ``vramtop.estimator.stacks``, not here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from vramtop.estimator.workload import Lora, Model, Parallel, Workload

from .truth_rows import Record, Translation, device, model

STABLELM_ALPHA: Final = Model(
    "stablelm-base-alpha-3b",
    {
        "model_type": "gpt_neox",
        "hidden_size": 4096,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "intermediate_size": 16384,
        "vocab_size": 50688,
        "max_position_embeddings": 4096,
        "rotary_pct": 0.25,
    },
)
"""stabilityai/stablelm-base-alpha-3b, config.json."""
_LITGPT_MODELS: Final = {
    ("phi-1.5", "1.3 B"): "phi-1.5",
    ("Llama 2", "7 B"): "llama-2-7b",
    ("Llama 2", "13 B"): "llama-2-13b",
    ("CodeLlama", "34 B"): "codellama-34b",
    ("Falcon", "40 B"): "falcon-40b",
    ("falcon-7b", "7.22e9"): "falcon-7b",
    ("Llama-2-70b-chat", "69e9"): "llama-2-70b",
    ("llama-3.1-8b", ""): "llama-3.1-8b",
    ("tiny-llama", ""): "tinyllama",
    ("mistral-7b-v0.2", ""): "mistral-7b",
    ("Phi-3-mini-4k-instruct", ""): "phi-3-mini",
}
_GENERATED: Final = 50
"""New tokens of litgpt/generate/base.py where a table does not say."""
_PROMPT: Final = 8
"""Tokens of its prompt, "What food do llamas eat?", with the one before them, rounded up."""


def _litgpt_model(record: Record) -> Model:
    name = record["model"]
    if "stablelm" in name.lower():
        return STABLELM_ALPHA
    if record["notes"].startswith("gemma2-2b/"):
        return model("gemma-2-2b")
    return model(_LITGPT_MODELS.get((name, record["params"]), name))


def _litgpt_precision(record: Record) -> str:
    if record["quant"].startswith(("bnb.nf4", "bnb.fp4")):
        return "nf4"
    if record["quant"] == "bnb.int8":
        return "int8"
    return {"bf16-true": "bf16", "bf16-mixed": "amp-bf16"}.get(record["dtype"], record["dtype"])


def _litgpt_lora(record: Record) -> Lora | None:
    said = re.search(r"r=(\d*) ?([a-z,]*)", record["lora"])
    if said is None:
        return None
    # Where the table leaves the rank out, the configuration file has 32 (query and value).
    targets = said[2] if said[2] not in ("", "q,v") else "query,value"
    return Lora(int(said[1] or 32), tuple(targets.split(",")), 0.05)


def litgpt_training(record: Record) -> Translation:
    """finetune/lora.py and full.py. bitsandbytes' PagedAdamW keeps its states in managed memory.

    config_hub's rows say that all are of one GPU; but two of its files have ``devices: 4``
    (gemma-2b/full) and 2 (phi-2/full), where one could not have held the run. Samples of an
    optimizer step (``global_batch_size``): 8, in full/*.yaml as below; 128 in the older tables.
    """
    if "adapter" in record["lora"]:
        return "LLaMA-Adapter, which a workload cannot say"
    several = int(record["gpus"]) if record["parallelism"].startswith("FSDP") else 1
    if "4 devices" in record["parallelism"] and "full.yaml" in record["notes"]:
        several = {"gemma-2b": 4, "phi-2": 2, "llama-3-8b": 4}.get(record["model"], 1)
    quantized = bool(record["quant"])
    hub = record["source"] == "LitGPT config_hub"
    samples = 8 if hub else 128
    if "full.yaml" in record["notes"]:
        samples = {"gemma-2b": 16, "tiny-llama": 32, "llama-3-8b": 64}.get(record["model"], 8)
    batch = int(record["micro_batch"])
    return Workload(
        _litgpt_model(record),
        batch=batch,
        sequence=int(record["seq_len"]),
        precision=_litgpt_precision(record),
        double_quantization=record["quant"].endswith("-dq"),
        optimizer="paged-adamw-8bit" if quantized else "adamw",
        checkpointing="full" if several > 1 else "none",
        lora=_litgpt_lora(record),
        grad_accumulation=max(1, samples // (batch * several)),
        stack="litgpt" if hub else "lit-gpt",
        parallel=Parallel(gpus=several, zero=3) if several > 1 else Parallel(),
        device=device(record["gpu"]),
    )


def litgpt_inference(record: Record) -> Translation:
    """generate/base.py, sequentially.py and tp.py: the default prompt, 50 tokens unless said."""
    if record["training"] == "1":
        return litgpt_training(record)
    tokens = re.match(r"(\d+) new tokens", record["seq_len"])
    ways = re.match(r"(sequential|TP)(\d+)", record["parallelism"])
    parallel = Parallel()
    if ways is not None and ways[1] == "sequential":
        parallel = Parallel(gpus=int(ways[2]), pipeline=int(ways[2]))
    elif ways is not None:
        parallel = Parallel(gpus=int(ways[2]), tensor=int(ways[2]))
    return Workload(
        _litgpt_model(record),
        mode="inference",
        sequence=_PROMPT,
        new_tokens=int(tokens[1]) if tokens else _GENERATED,
        precision=_litgpt_precision(record),
        compute_dtype="fp16" if record["quant"] == "bnb.int8" else None,
        double_quantization=record["quant"].endswith("-dq"),
        stack="litgpt",
        parallel=parallel,
        device=device(record["gpu"]),
    )


def perf_train_gpu_one(record: Record) -> Translation:
    """docs/source/en/perf_train_gpu_one.mdx: Trainer on 512 random sequences of 512 tokens.

    Of that time (torch 1.11, transformers 4.18): attention is eager; TrainingArguments.optim is
    ``adamw_hf``, which steps one parameter after another; ``zero_grad`` fills gradients with
    zeros instead of dropping them, so they are there during forward, as while accumulating.
    bitsandbytes' optimizer is made by hand, thus without Trainer's fp32 states of embeddings.
    """
    optimizer = {"AdamW": "adamw", "Adafactor": "adafactor", "bnb Adam8bit": "adam-8bit"}
    found = model("bert-large-uncased")
    accumulation = re.search(r"grad accum (\d+)", record["notes"])
    return Workload(
        Model(found.name, found.config, "AutoModelForSequenceClassification"),
        batch=int(record["micro_batch"]),
        sequence=int(record["seq_len"]),
        precision={"fp32": "fp32", "fp16 amp": "amp-fp16"}[record["dtype"]],
        optimizer=optimizer[record["optimizer"]],
        optimizer_implementation="forloop",
        attention="eager",
        checkpointing="full" if record["grad_ckpt"] == "yes" else "none",
        grad_accumulation=int(accumulation[1]) if accumulation else 2,
        stack="plain" if "bnb" in record["optimizer"] else "hf-trainer",
        device=device("V100-16GB"),
    )


def fsdp_qlora(record: Record) -> Translation:
    """AnswerDotAI's train.py: Hugging Face Llama, PEFT-like LoRA, FSDP1, checkpointing."""
    names = {"Llama-2-7B": "llama-2-7b"}
    if record["model"] not in names:
        return f"{record['model']} is not in the catalogue"
    sharded = "FULL_SHARD" in record["parallelism"]
    return Workload(
        model(names[record["model"]]),
        batch=int(record["micro_batch"]),
        sequence=int(record["seq_len"]),
        precision="nf4" if record["quant"] else "bf16",
        double_quantization=False,
        checkpointing="full",
        # PEFT 0.9, before autocast_adapter_dtype; train.py never prepares for k-bit training.
        lora=Lora(
            64,
            ("k_proj", "q_proj", "v_proj", "up_proj", "down_proj", "gate_proj"),
            0.1,
            dtype="bf16",
            prepared=False,
        ),
        stack="fsdp-qlora",
        parallel=Parallel(gpus=2, zero=3 if sharded else 0),
        device=device(record["gpu"]),
    )


def torchtune(record: Record) -> Translation:
    """README's ablation: one step is neither compiled nor offloaded and has full sequences."""
    if "Baseline" in record["notes"]:
        return "not packed: the sequence length varies"
    if "+packed" not in record["notes"]:
        return "torch.compile, whose fusions are not modelled"
    return Workload(
        model("llama-3.2-3b"),
        batch=2,
        sequence=4096,
        precision="bf16",
        stack="torchtune",
        device=device("A100-80GB"),
    )


def torchtitan(record: Record) -> Translation:
    """benchmarks/llama3_h100_202412_torchtitan.md: the eager rows.

    FSDP2 with fp32 shards gathered in bf16 and reduced in fp32 is what ``sharding`` composes of
    autocast.
    """
    if "float8" in record["dtype"]:
        return "float8 products under torch.compile"
    gpus = int(record["gpus"])
    return Workload(
        model("llama-3.1-8b"),
        batch=int(record["micro_batch"]),
        sequence=int(record["seq_len"]),
        precision="amp-bf16",
        checkpointing="selective",
        stack="torchtitan",
        parallel=Parallel(gpus=gpus, zero=3),
        device=device("H100 96GB"),
    )


def megatron(record: Record) -> Translation:
    """Golden values of NVIDIA's functional tests: the arguments are in the notes.

    Phi's is the architecture with grouped queries, biases and a plain MLP, as Megatron's GPT has.
    """
    said = dict(re.findall(r"(\w+)=(\S+)", record["notes"].split(" only; ")[-1].replace(";", "")))
    if said.get("vocab", "None") == "None":
        return "the vocabulary is not said"
    shape = {name: int(said[name]) for name in ("L", "h", "a", "kv", "vocab")}
    cut = dict(re.findall(r"(TP|PP|CP|EP)(\d+)", record["parallelism"]))
    tensor, pipeline = int(cut["TP"]), int(cut["PP"])
    gpus, batch = int(record["gpus"]), int(record["micro_batch"])
    data = gpus // (tensor * pipeline)
    config = {
        "model_type": "phi",
        "hidden_size": shape["h"],
        "num_hidden_layers": shape["L"],
        "num_attention_heads": shape["a"],
        "num_key_value_heads": shape["kv"],
        "intermediate_size": 4 * shape["h"],
        "vocab_size": shape["vocab"],
        "max_position_embeddings": int(record["seq_len"]),
        "tie_word_embeddings": said["untie"] != "True",
    }
    return Workload(
        Model(record["model"], config),
        batch=batch,
        sequence=int(record["seq_len"]),
        precision="bf16",
        stack="megatron",
        parallel=Parallel(
            gpus=gpus,
            zero=1,
            tensor=tensor,
            pipeline=pipeline,
            virtual_pipeline=shape["L"] // pipeline
            if "vpp-layers1" in record["parallelism"]
            else 1,
            sequence=" SP" in record["parallelism"],
            micro_batches=int(said["gbs"]) // (batch * data),
        ),
        device=device({"A100": "A100-80GB"}.get(record["gpu"], record["gpu"])),
    )


def vllm(record: Record) -> Translation:
    """The weights that vLLM logs when it has loaded a model."""
    if "Llama-3" not in record["model"] or "Vision" in record["model"]:
        return f"{record['model']} is not in the catalogue"
    ways = int(record["parallelism"].removeprefix("TP"))
    return Workload(
        model("llama-3-8b"),
        mode="inference",
        sequence=8192,
        precision="bf16",
        parallel=Parallel(gpus=ways, tensor=ways),
    )


def peft_comparison(record: Record) -> Translation:
    """method_comparison/MetaMathQA: batches bucketed by length, evaluation between."""
    return "sequence lengths vary, and generation at batch 50 may be the peak"


SOURCES: Final[dict[str, Callable[[Record], Translation]]] = {
    "LitGPT resource tables": litgpt_inference,
    "LitGPT finetune_lora.md": litgpt_inference,
    "LitGPT config_hub": litgpt_training,
    "LitGPT quantize.md": litgpt_inference,
    "LitGPT inference.md": litgpt_inference,
    "HF perf_train_gpu_one": perf_train_gpu_one,
    "AnswerDotAI fsdp_qlora 2024-03": fsdp_qlora,
    "torchtune README": torchtune,
    "torchtitan benchmarks 2024-12": torchtitan,
    "Megatron-LM functional-test golden values": megatron,
    "vLLM PR 10511": vllm,
    "vLLM PR 17122": vllm,
    "vLLM PR 12126": vllm,
    "vLLM PR 14447": vllm,
    "PEFT method_comparison MetaMathQA": peft_comparison,
}
