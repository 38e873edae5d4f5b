"""What is impossible: every check of a workload, each with one line that says what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, get_args

from ..errors import UsageError
from .config_numbers import entries, is_image_model, kv_heads, longest_sequence, number
from .workload import (
    ATTENTIONS,
    CHECKPOINTINGS,
    COMPUTE_DTYPES,
    OPTIMIZERS,
    PRECISIONS,
    QUANTIZED,
    STACKS,
    Mode,
    OptimizerImplementation,
    Workload,
)

KV_DTYPES: Final = ("fp32", "fp16", "bf16", "fp8", "int8")
FUSED: Final = ("adamw", "adam", "sgd", "sgd-momentum", "adagrad")
"""With a fused CUDA step in torch.optim (native_functions.yaml, _fused_*_ with a CUDA kernel)."""
FOREACH: Final = (*FUSED, "rmsprop", "adafactor")
"""With a foreach step: all of torch.optim that is here but Muon."""
STACK_OPTIMIZERS: Final[Mapping[str, tuple[str, ...]]] = {
    "torchtitan": ("adam", "adamw", "muon"),
    "megatron": ("adam", "adamw", "sgd", "sgd-momentum", "muon"),
}
"""What a stack can be asked for: torchtitan components/optimizer.py (Muon from its
experiments); Megatron-LM arguments.py --optimizer. Others take any class."""
_FP8_CAPABILITY: Final = (8, 9)
_FLASH_CAPABILITY: Final = (8, 0)
_HEAD_SIZES: Final = ("head_dim", "d_kv", "qk_nope_head_dim")
"""Of models whose heads need not divide the hidden size."""
GENERATING: Final = ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM")


def need(holds: bool, message: str) -> None:
    """Raise UsageError with the message where something does not hold."""
    if not holds:
        raise UsageError(message)


def validate(workload: Workload) -> None:
    """Check everything that can be told without building the model.

    Raises:
        UsageError: the workload is impossible; one line with what is wrong and what is allowed.
    """
    for check in CHECKS:
        check(workload)


def _names(workload: Workload) -> None:
    for option, value, allowed in (
        ("--mode", workload.mode, get_args(Mode)),
        ("--precision", workload.precision, PRECISIONS),
        ("--compute-dtype", workload.compute_dtype, COMPUTE_DTYPES),
        ("--optimizer", workload.optimizer, OPTIMIZERS),
        ("--attention", workload.attention, ATTENTIONS),
        ("--checkpointing", workload.checkpointing, CHECKPOINTINGS),
        ("--kv-dtype", workload.kv_dtype, KV_DTYPES),
        ("--stack", workload.stack, STACKS),
        (
            "optimizer implementation",
            workload.optimizer_implementation,
            get_args(OptimizerImplementation),
        ),
    ):
        _one_of(option, value, allowed)


def _one_of(option: str, value: str | None, allowed: Sequence[str]) -> None:
    need(value is None or value in allowed, f"{option} {value!r}: there are {', '.join(allowed)}")


MOST_SAMPLES: Final = 1 << 20
"""Of a micro-batch: far beyond any device, and sums stay far from any overflow."""


def _amounts(workload: Workload) -> None:
    parallel = workload.parallel
    for option, value, least in (
        ("--batch", workload.batch, 1),
        ("--seq", workload.sequence, 1),
        ("--grad-accumulation", workload.grad_accumulation, 1),
        ("--new-tokens", workload.new_tokens, 0),
        ("--gpus", parallel.gpus, 1),
        ("--shard-gpus", parallel.shard_gpus, 1),
        ("--tp", parallel.tensor, 1),
        ("--pp", parallel.pipeline, 1),
        ("--vpp", parallel.virtual_pipeline, 1),
        ("--cp", parallel.context, 1),
        ("--ep", parallel.expert, 1),
        ("--micro-batches", parallel.micro_batches, 1),
        ("--lora", workload.lora.rank if workload.lora else None, 1),
    ):
        need(value is None or value >= least, f"{option} {value}: it must be {least} or more")
    need(
        workload.batch <= MOST_SAMPLES,
        f"--batch {workload.batch}: it must be {MOST_SAMPLES:,} or less",
    )
    need(parallel.zero in (0, 1, 2, 3), f"--zero {parallel.zero}: there are 0, 1, 2 and 3")
    if workload.lora is not None:
        dropout = workload.lora.dropout
        need(0 <= dropout < 1, f"--lora-dropout {dropout:g}: it must be 0 or more and below 1")
    if workload.device is not None:
        total = workload.device.total_bytes
        need(total > 0, f"a device of {total} bytes: its memory must be above 0")


def _mode(workload: Workload) -> None:
    if workload.training:
        need(not workload.new_tokens, "--new-tokens is for --mode inference; training has none")
        need(workload.kv_dtype is None, "--kv-dtype is for --mode inference; training has no cache")
        return
    for option, given in (
        ("--checkpointing", workload.checkpointing != "none"),
        ("--grad-accumulation", workload.grad_accumulation > 1),
        ("--chunked-loss", workload.chunked_loss),
        ("--fused, --foreach and --forloop", workload.optimizer_implementation is not None),
    ):
        need(not given, f"{option}: only for --mode training; inference has no loss and no step")
    zero = workload.parallel.zero
    need(zero in (0, 3), f"--zero {zero} divides nothing of inference; 3 divides the weights")
    kind = workload.model.auto_class
    if workload.model.config is not None and kind not in GENERATING:
        need(not workload.new_tokens, f"--new-tokens: {workload.model.name} generates no tokens")
    if workload.kv_dtype is not None:
        need(workload.new_tokens > 0, "--kv-dtype: there is no KV cache without --new-tokens")


def _precision(workload: Workload) -> None:
    precision = workload.precision
    if workload.training and precision in QUANTIZED and workload.lora is None:
        others = ", ".join(name for name in PRECISIONS if name not in QUANTIZED)
        raise UsageError(
            f"{workload.optimizer} cannot train {precision} weights: add --lora RANK, "
            f"or take --precision {others}"
        )
    need(
        workload.compute_dtype is None or precision in QUANTIZED,
        f"--compute-dtype is for --precision {', '.join(QUANTIZED)}; {precision} computes in its "
        "own",
    )
    need(
        not workload.double_quantization or precision == "nf4",
        f"--double-quant is for --precision nf4, not {precision}",
    )
    if workload.device is not None and precision == "fp8":
        _capability(workload, "--precision fp8", _FP8_CAPABILITY, "take int8")


def _attention(workload: Workload) -> None:
    if workload.attention != "flash":
        return
    need(
        workload.activation_dtype != "fp32",
        f"--attention flash takes fp16 and bf16 only, not {workload.precision}; take sdpa",
    )
    if workload.device is not None:
        _capability(workload, "--attention flash", _FLASH_CAPABILITY, "take sdpa")


def _capability(workload: Workload, what: str, least: tuple[int, int], instead: str) -> None:
    device = workload.device
    assert device is not None
    have = device.compute_capability
    need(
        have >= least,
        f"{what} needs compute capability {least[0]}.{least[1]}; {device.name} has "
        f"{have[0]}.{have[1]}: {instead}",
    )


def _optimizer(workload: Workload) -> None:
    if not workload.training:
        return
    name, stack = workload.optimizer, workload.stack
    able = STACK_OPTIMIZERS.get(stack)
    need(
        able is None or name in able,
        f"--stack {stack} has no {name}; it has {', '.join(able or ())}",
    )
    for implementation, those in (("fused", FUSED), ("foreach", FOREACH)):
        need(
            workload.optimizer_implementation != implementation or name in those,
            f"--{implementation}: {name} has none; {', '.join(those)} have",
        )


def _config(workload: Workload) -> None:
    model = workload.model
    if model.config is None:
        need(model.entry is not None, f"{model.name!r} has neither a configuration nor a function")
        return
    kind = model.config.get("model_type")
    need(
        isinstance(kind, str) and bool(kind),
        f'the configuration of {model.name} has no model_type, as "llama"',
    )
    for name, value in entries(model.config):
        need(
            isinstance(value, int) and not isinstance(value, bool) and value > 0,
            f"the configuration of {model.name} is corrupt: {name} is {value!r}, not a whole "
            "number above 0",
        )
    hidden, heads = number(model.config, "hidden"), number(model.config, "heads")
    own = any(model.config.get(name) for name in _HEAD_SIZES)
    if hidden and heads and not own:
        need(
            hidden % heads == 0,
            f"the configuration of {model.name} is corrupt: {heads} heads do not divide the hidden "
            f"size {hidden}",
        )


def _sequence(workload: Workload) -> None:
    config = workload.model.config
    if config is None or is_image_model(config):
        return
    most = longest_sequence(config)
    if most is None:
        return
    tokens = workload.sequence + workload.new_tokens
    with_new = f" with {workload.new_tokens} new tokens" if workload.new_tokens else ""
    need(
        tokens <= most,
        f"--seq {workload.sequence}{with_new}: {workload.model.name} takes at most {most} tokens",
    )


def _loss(workload: Workload) -> None:
    if not workload.chunked_loss or workload.model.config is None:
        return
    need(
        workload.model.auto_class in GENERATING,
        f"--chunked-loss is for language models; {workload.model.name} has no logits over words",
    )


def _spread(workload: Workload) -> None:
    parallel = workload.parallel
    model_parallel = parallel.tensor * parallel.pipeline * parallel.context
    need(
        parallel.gpus % model_parallel == 0,
        f"--gpus {parallel.gpus} is no multiple of --tp × --pp × --cp = {parallel.tensor} × "
        f"{parallel.pipeline} × {parallel.context} = {model_parallel}",
    )
    whole = parallel.data * parallel.context
    need(
        parallel.zero == 0 or whole > 1,
        f"--zero {parallel.zero} divides over data-parallel GPUs, and there is one: take "
        f"--gpus {2 * model_parallel} or more",
    )
    if parallel.shard_gpus is not None:
        need(parallel.zero > 0, "--shard-gpus is for --fsdp and --zero 1, 2 or 3")
        need(
            whole % parallel.shard_gpus == 0,
            f"--shard-gpus {parallel.shard_gpus} does not divide the {whole} GPUs of data parallel",
        )
    need(not parallel.sequence or parallel.tensor > 1, "--sp needs --tp 2 or more")
    need(
        workload.sequence % parallel.context == 0,
        f"--seq {workload.sequence} cannot be divided over --cp {parallel.context}",
    )
    if parallel.sequence:
        need(
            workload.sequence // parallel.context % parallel.tensor == 0,
            f"--seq {workload.sequence} cannot be divided over --tp {parallel.tensor} for --sp",
        )
    need(
        workload.model.config is not None or model_parallel * parallel.expert == 1,
        f"{workload.model.name} is code: --tp, --pp, --cp and --ep need a configuration",
    )


def _pipeline(workload: Workload) -> None:
    parallel = workload.parallel
    stages, chunks = parallel.pipeline, parallel.virtual_pipeline
    if stages == 1:
        need(chunks == 1, f"--vpp {chunks} needs --pp 2 or more")
        need(
            parallel.micro_batches is None,
            "--micro-batches is for --pp; without it there is --grad-accumulation",
        )
        return
    need(workload.training or chunks == 1, "--vpp is a schedule of training")
    need(
        workload.grad_accumulation == 1,
        "--grad-accumulation with --pp: a pipeline accumulates over --micro-batches",
    )
    passes = parallel.micro_batches
    need(
        chunks == 1 or passes is None or passes % stages == 0,
        f"--micro-batches {passes} must be a multiple of --pp {stages} for --vpp",
    )
    layers = number(workload.model.config or {}, "layers")
    if layers is None:
        return
    need(stages <= layers, f"--pp {stages}: {workload.model.name} has {layers} layers")
    need(
        layers % (stages * chunks) == 0,
        f"--pp {stages}{f' × --vpp {chunks}' if chunks > 1 else ''} does not divide the {layers} "
        f"layers of {workload.model.name}; {_divisors(layers)} do",
    )


def _tensor(workload: Workload) -> None:
    config, degree = workload.model.config, workload.parallel.tensor
    if config is None or degree == 1:
        return
    heads, shared = number(config, "heads"), kv_heads(config)
    if heads is not None:
        need(
            heads % degree == 0,
            f"--tp {degree} does not divide the {heads} heads of {workload.model.name}; "
            f"{_divisors(heads)} do",
        )
    if shared is not None:
        need(
            shared % degree == 0 or degree % shared == 0,
            f"--tp {degree} and the {shared} key-value heads of {workload.model.name}: one must "
            "be a multiple of the other",
        )


def _expert(workload: Workload) -> None:
    config, parallel = workload.model.config, workload.parallel
    degree = parallel.expert
    if config is None or degree == 1:
        return
    experts = number(config, "experts")
    need(experts is not None, f"--ep {degree}: {workload.model.name} has no experts")
    assert experts is not None
    need(
        experts % degree == 0,
        f"--ep {degree} does not divide the {experts} experts of {workload.model.name}; "
        f"{_divisors(experts)} do",
    )
    group = parallel.gpus // parallel.pipeline
    need(
        group % degree == 0,
        f"--ep {degree} does not divide the {group} GPUs of a pipeline stage (--gpus / --pp)",
    )


def _divisors(count: int) -> str:
    return ", ".join(str(degree) for degree in range(1, min(count, 64) + 1) if count % degree == 0)


CHECKS: Final[tuple[Callable[[Workload], Any], ...]] = (
    _names,
    _amounts,
    _config,
    _mode,
    _precision,
    _attention,
    _optimizer,
    _sequence,
    _loss,
    _spread,
    _pipeline,
    _tensor,
    _expert,
)
