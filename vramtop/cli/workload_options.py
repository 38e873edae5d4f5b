"""Options that describe a workload, for every command that asks the estimator; what they mean.

No option has a default here: None is what the user left open, and ``workload_of`` fills it in.
"""

from __future__ import annotations

import argparse
import re
from typing import Any, Final

from ..errors import UsageError
from ..estimator.checks import KV_DTYPES, need
from ..estimator.config_numbers import is_image_model, longest_sequence
from ..estimator.workload import (
    ATTENTIONS,
    CHECKPOINTINGS,
    COMPUTE_DTYPES,
    OPTIMIZERS,
    PRECISIONS,
    STACKS,
    AllocatorConfig,
    Device,
    Lora,
    Model,
    Parallel,
    Workload,
)

DEFAULT_SEQUENCE: Final = 2048
"""Tokens of a sample where nothing is said, or the model's maximum where that is less."""
_UNITS: Final = {
    "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
    "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "b": 1,
}  # fmt: skip
_PARALLEL: Final = {
    "gpus": "gpus",
    "zero": "zero",
    "shard_gpus": "shard_gpus",
    "tp": "tensor",
    "sp": "sequence",
    "pp": "pipeline",
    "vpp": "virtual_pipeline",
    "cp": "context",
    "ep": "expert",
    "micro_batches": "micro_batches",
}
"""Options and the fields of Parallel that they set."""
_FIELDS: Final = {
    "mode": "mode",
    "batch": "batch",
    "precision": "precision",
    "compute_dtype": "compute_dtype",
    "double_quant": "double_quantization",
    "optimizer": "optimizer",
    "optimizer_implementation": "optimizer_implementation",
    "attention": "attention",
    "checkpointing": "checkpointing",
    "grad_accumulation": "grad_accumulation",
    "chunked_loss": "chunked_loss",
    "new_tokens": "new_tokens",
    "kv_dtype": "kv_dtype",
    "stack": "stack",
}
"""Options and the fields of Workload that they set."""

_TRAINING_ONLY: Final = (
    ("optimizer", "--optimizer", "it has no step"),
    ("lora_dropout", "--lora-dropout", "dropout is off"),
    (
        "no_kbit_preparation",
        "--no-kbit-preparation",
        "prepare_model_for_kbit_training is for training",
    ),
)
"""Options of which validate cannot tell whether they were given: name, option, reason."""


def add_model_options(
    parser: argparse.ArgumentParser, *, required: bool = True, code: bool = True
) -> None:
    """What is trained on which GPU: MODEL, which may be ``code``, its sequences, the device."""
    of_code = (
        ", or package.module:function | file.py:function that returns a transformers model, or any "
        "with its step: (model, step), step(model, batch, sequence) -> loss"
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs=None if required else "?",
        help="catalogue name (llama-2-7b), Hugging Face id, config.json or its folder"
        + (of_code if code else ""),
    )
    device = parser.add_argument_group("device").add_mutually_exclusive_group()
    device.add_argument("--gpu", metavar="NAME", help="a GPU of the catalogue, as 4090, h100")
    device.add_argument("--vram", metavar="SIZE", help="or its memory alone: 24GiB, 80GB")
    group = parser.add_argument_group("what runs")
    group.add_argument(
        "--seq",
        type=int,
        metavar="N",
        help=f"tokens of a sample, of the prompt in inference (default: {DEFAULT_SEQUENCE}, or "
        "the model's maximum where that is less; of a function it is not known)",
    )
    _add_choice(group, "--attention", ATTENTIONS, "sdpa")
    _add_choice(group, "--stack", STACKS, "plain", "whose training loop")
    group.add_argument(
        "--alloc-conf",
        metavar="CONF",
        help="as PYTORCH_CUDA_ALLOC_CONF: expandable_segments:True, max_split_size_mb:128, "
        "roundup_power2_divisions:4, with commas",
    )


def add_batch_options(parser: argparse.ArgumentParser) -> None:
    """Training or inference, and of how many samples at a time."""
    group = parser.add_argument_group("batch and mode")
    _add_choice(group, "--mode", ("training", "inference"), "training")
    group.add_argument("--batch", type=int, metavar="N", help="micro-batch of one GPU (default: 1)")
    group.add_argument(
        "--grad-accumulation", type=int, metavar="N", help="micro-batches before a step"
    )
    group.add_argument(
        "--new-tokens", type=int, metavar="N", help="inference: tokens generated with a KV cache"
    )
    _add_choice(group, "--kv-dtype", KV_DTYPES, "that of the activations", "of the KV cache")


def add_arithmetic_options(parser: argparse.ArgumentParser, *, searched: bool = False) -> None:
    """Precision, optimizer, adapters, and what is not kept; ``searched``: where left open."""
    group = parser.add_argument_group("arithmetic")
    _add_choice(
        group,
        "--precision",
        PRECISIONS,
        "amp-bf16, amp-fp16 on a GPU without bf16; then bf16, and int8 and nf4 under LoRA"
        if searched
        else "bf16, for a function the weights as it makes them",
        "amp-*: fp32 weights under autocast; else of the weights",
    )
    _add_choice(group, "--compute-dtype", COMPUTE_DTYPES, "bf16", "of quantised linears")
    group.add_argument(
        "--double-quant", action="store_const", const=True, help="nf4: scales quantised too"
    )
    _add_choice(group, "--optimizer", OPTIMIZERS, "adamw, then adamw-8bit" if searched else "adamw")
    steps = group.add_mutually_exclusive_group()
    for name in ("fused", "foreach", "forloop"):
        steps.add_argument(
            f"--{name}",
            dest="optimizer_implementation",
            action="store_const",
            const=name,
            help=f"how the optimizer steps: {name}" if name != "forloop" else "one by one",
        )
    _add_choice(group, "--checkpointing", CHECKPOINTINGS, "each is tried" if searched else "none")
    group.add_argument(
        "--lora",
        type=int,
        metavar="RANK",
        help="train LoRA adapters only" + (" (default: none, then 16)" if searched else ""),
    )
    group.add_argument(
        "--lora-targets",
        metavar="NAMES",
        help="module names with commas, or all-linear (default: PEFT's for the model)",
    )
    group.add_argument("--lora-dropout", type=float, metavar="P", help="default: 0")
    _add_choice(group, "--lora-dtype", COMPUTE_DTYPES, "fp32, as PEFT makes adapters")
    group.add_argument(
        "--no-kbit-preparation",
        action="store_const",
        const=True,
        help="nf4, int8: without PEFT's prepare_model_for_kbit_training",
    )
    group.add_argument(
        "--chunked-loss",
        action="store_const",
        const=True,
        help="logits and cross entropy in pieces (Liger, cut cross entropy)",
    )


def add_parallel_options(parser: argparse.ArgumentParser) -> None:
    """How a training is spread over GPUs."""
    group = parser.add_argument_group("many GPUs; figures are those of the fullest")
    group.add_argument("--gpus", type=int, metavar="N", help="of the whole training (default: 1)")
    zero = group.add_mutually_exclusive_group()
    zero.add_argument("--zero", type=int, metavar="0|1|2|3", help="ZeRO stage")
    zero.add_argument(
        "--fsdp", dest="zero", action="store_const", const=3, help="full shard, as --zero 3"
    )
    group.add_argument(
        "--shard-gpus", type=int, metavar="N", help="GPUs that share a copy (FSDP hybrid shard)"
    )
    for option, words in (
        ("--tp", "tensor parallel degree"),
        ("--pp", "pipeline stages"),
        ("--vpp", "model chunks a stage (interleaved 1F1B)"),
        ("--cp", "context parallel degree"),
        ("--ep", "expert parallel degree"),
        ("--micro-batches", "of a pipeline's step"),
    ):
        group.add_argument(option, type=int, metavar="N", help=words)
    group.add_argument(
        "--sp", action="store_const", const=True, help="sequence parallelism beside --tp"
    )


def workload_of(args: argparse.Namespace) -> Workload:
    """The workload of parsed options; those that a command does not have are as left open.

    Raises:
        UsageError: the model or the GPU is unknown, or a value is not one.
    """
    from .model_source import find_model

    model = find_model(args.model)
    given = vars(args)
    plain = {
        field: given[option] for option, field in _FIELDS.items() if given.get(option) is not None
    }
    spread = {
        field: given[option] for option, field in _PARALLEL.items() if given.get(option) is not None
    }
    if model.entry is not None:
        plain.setdefault("precision", "fp32")
    return Workload(
        model=model,
        sequence=default_sequence(model, plain.get("new_tokens", 0))
        if given.get("seq") is None
        else args.seq,
        lora=_lora(given),
        parallel=Parallel(**spread),
        device=_device(given),
        allocator=parse_alloc_conf(given.get("alloc_conf") or ""),
        **plain,
    )


def given_fields(args: argparse.Namespace) -> frozenset[str]:
    """Fields of Workload and Parallel that the user has set by an option."""
    given = vars(args)
    fields = {**_FIELDS, **_PARALLEL, "seq": "sequence", "lora": "lora"}
    return frozenset(field for option, field in fields.items() if given.get(option) is not None)


def unused_notes(args: argparse.Namespace, workload: Workload) -> tuple[str, ...]:
    """A note for each option given that changes nothing of an inference.

    What would change a training and cannot be had here is an error of ``validate``.
    """
    if workload.training:
        return ()
    given = vars(args)
    return tuple(
        f"{option} changes nothing of an inference: {why}"
        for name, option, why in _TRAINING_ONLY
        if given.get(name) is not None
    )


def default_sequence(model: Model, new_tokens: int = 0) -> int:
    """``DEFAULT_SEQUENCE`` or what the model can do, with room for what is generated."""
    if model.config is None:
        return DEFAULT_SEQUENCE
    if is_image_model(model.config):
        return 1
    most = longest_sequence(model.config)
    return DEFAULT_SEQUENCE if most is None else max(min(DEFAULT_SEQUENCE, most - new_tokens), 1)


def parse_size(text: str, option: str = "--vram") -> int:
    """Bytes of a size as 24GiB, 24G (both 2^30) or 80GB (10^9).

    Raises:
        UsageError: it is none.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*", text)
    unit = _UNITS.get(match.group(2).lower()) if match else None
    size = int(float(match.group(1)) * unit) if match and unit else 0
    if size <= 0:
        raise UsageError(f"{option} {text!r} is no size; write 24GiB, 24576MiB or 80GB")
    return size


def parse_alloc_conf(text: str) -> AllocatorConfig:
    """The settings that change the layout, in the syntax of PYTORCH_CUDA_ALLOC_CONF.

    Raises:
        UsageError: a setting is unknown, or its value not allowed.
    """
    values: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = (piece.strip() for piece in part.partition(":"))
        if key == "expandable_segments" and value in ("True", "False"):
            values["expandable_segments"] = value == "True"
        elif key == "max_split_size_mb" and value.isdecimal() and int(value) > 20:
            values["max_split_bytes"] = int(value) << 20
        elif key == "roundup_power2_divisions" and _is_power_of_two(value):
            values["roundup_power2_divisions"] = int(value) if int(value) > 1 else 0
        else:
            raise UsageError(
                f"--alloc-conf: {part!r} is not known; there are expandable_segments:True|False, "
                "max_split_size_mb:N above 20, roundup_power2_divisions:N, a power of two"
            )
    return AllocatorConfig(**values)


def _is_power_of_two(text: str) -> bool:
    return text.isdecimal() and int(text).bit_count() == 1


def _device(given: dict[str, Any]) -> Device | None:
    if given.get("gpu") is not None:
        from ..estimator.catalog import find_gpu

        return find_gpu(given["gpu"])
    if given.get("vram") is not None:
        return Device(given["vram"].strip(), parse_size(given["vram"]))
    return None


def _lora(given: dict[str, Any]) -> Lora | None:
    rank = given.get("lora")
    targets, dropout = given.get("lora_targets"), given.get("lora_dropout")
    if rank is None:
        for name in ("lora_targets", "lora_dropout", "lora_dtype", "no_kbit_preparation"):
            need(given.get(name) is None, f"--{name.replace('_', '-')} needs --lora RANK")
        return None
    names = tuple(filter(None, (name.strip() for name in (targets or "").split(","))))
    need(targets is None or bool(names), "--lora-targets names no module; write q_proj,v_proj")
    return Lora(
        rank,
        names,
        dropout or 0.0,
        dtype=given.get("lora_dtype"),
        prepared=not given.get("no_kbit_preparation"),
    )


def _add_choice(
    group: Any, option: str, values: tuple[str, ...], default: str, words: str = ""
) -> None:
    group.add_argument(
        option,
        metavar="|".join(values) if len(values) <= 4 else "NAME",
        help=f"{words + ': ' if words and len(values) > 4 else words + ' ' if words else ''}"
        + (f"{', '.join(values)} " if len(values) > 4 else "")
        + f"(default: {default})",
    )
