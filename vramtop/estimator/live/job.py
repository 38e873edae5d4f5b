"""A live process as a workload: what its probe has told, put in the words of an estimate.

The defaults of the libraries are predicted, not what was seen to depart from them: attention is
SDPA though the process runs eager, outputs are dropped though they live. So the excess shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ...core.breakdowns import detail_of, probe_device_of
from ...core.memory import Detail
from ...core.model import Device as LiveDevice
from ...core.model import ModelInfo, OptimizerInfo, Process
from ...core.observed import batch_and_sequence
from ...errors import UsageError
from ..workload import Loop, Lora, Model, Parallel, Workload
from .device import device_of
from .optimizer import implementation, optimizer_name

_AUTO_CLASSES: Final = (
    ("ForCausalLM", "AutoModelForCausalLM"),
    ("LMHeadModel", "AutoModelForCausalLM"),
    ("ForMaskedLM", "AutoModelForMaskedLM"),
    ("ForSequenceClassification", "AutoModelForSequenceClassification"),
    ("ForTokenClassification", "AutoModelForTokenClassification"),
    ("ForImageClassification", "AutoModelForImageClassification"),
)
"""By the ending of a class's name in transformers."""
_SEQ2SEQ: Final = ("ForConditionalGeneration", "AutoModelForSeq2SeqLM")
_NO_PART: Final = ("_name_or_path", "architectures", "transformers_version", "quantization_config")
"""Of a configuration: what changes nothing of the model, or is told otherwise."""
_DTYPES: Final = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_QUANTIZED: Final = {"Params4bit": "nf4", "Int8Params": "int8"}
_SMALL_SHARE: Final = 0.01
"""A second model with fewer of all parameters than this changes nothing that matters."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a process does, as far as it can be rebuilt."""

    workload: Workload
    class_name: str
    notes: tuple[str, ...]
    """What was assumed."""


def rebuild(process: Process, torch_device: str, devices: Sequence[LiveDevice]) -> Job:
    """The workload of a process on one torch device.

    Raises:
        UsageError: it cannot be rebuilt; one line says why.
    """
    model = main_model(process)
    optimizer = main_optimizer(process)
    detail = detail_of(process, torch_device)
    notes: list[str] = []
    if optimizer is None:
        raise UsageError(_without_optimizer(model))
    config = _config(model)
    if model.lora is None and model.trainable_parameters < model.parameters:
        raise UsageError(
            f"{model.class_name}: some of its parameters are frozen, and which is not known"
        )
    precision, compute = _precision(model, notes)
    quantization = (model.hf_config or {}).get("quantization_config") or {}
    batch, sequence = batch_and_sequence(model, detail)
    if batch is None:
        raise UsageError("the shapes of the batch are not known yet: no forward was heard")
    part = probe_device_of(process, torch_device)
    workload = Workload(
        model=Model(model.class_name, config, _auto_class(model)),
        batch=batch,
        sequence=sequence or 1,
        precision=precision,
        compute_dtype=compute,
        double_quantization=bool(quantization.get("bnb_4bit_use_double_quant")),
        optimizer=optimizer_name(optimizer),
        optimizer_implementation=implementation(optimizer.defaults),
        attention=_attention(model, notes),
        checkpointing="full" if model.checkpointing else "none",
        lora=_lora(model),
        grad_accumulation=_micro_batches(detail),
        parallel=_parallel(process, model, notes),
        device=device_of(process, part, devices, notes),
        backend="cuda" if torch_device.startswith("cuda") else "cpu",
        loop=Loop(
            keeps_outputs=False,
            zero_grad=_zero_grad(detail),
            loss=_loss(model),
            # Checkpointing that does nothing, in eval mode, is named as what it costs.
            training_mode=model.training is not False or bool(model.checkpointing),
        ),
    )
    return Job(workload, model.class_name, tuple(notes))


def main_model(process: Process) -> ModelInfo:
    """The one model of a process.

    Raises:
        UsageError: there is none yet, or several.
    """
    models = sorted(process.probe.models, key=lambda model: -model.parameters)
    if not models:
        raise UsageError("no model was seen yet: it is known from its first forward or step on")
    largest, *others = models
    if any(other.parameters > _SMALL_SHARE * largest.parameters for other in others):
        names = ", ".join(model.class_name for model in models[:3])
        raise UsageError(f"several models are trained together ({names})")
    return largest


def main_optimizer(process: Process) -> OptimizerInfo | None:
    """The optimizer with the most parameters; None before the first."""
    return max(process.probe.optimizers, key=lambda info: info.parameters or 0, default=None)


def parameter_bytes(by_dtype: Mapping[str, int]) -> int:
    """Bytes of elements by torch's names of their dtypes."""
    return sum(count * _width(dtype) for dtype, count in by_dtype.items())


def _width(dtype: str) -> int:
    bits = "".join(letter for letter in dtype if letter.isdigit())
    if dtype.startswith("float8"):
        return 1
    return max(int(bits) // 8, 1) if bits else 1


def _without_optimizer(model: ModelInfo) -> str:
    if model.training is False or not model.trainable_parameters:
        return "nothing is trained here: only trainings are predicted"
    return "no optimizer has stepped yet: the prediction waits for the first step"


def _config(model: ModelInfo) -> dict[str, Any]:
    if model.hf_config is None or not model.hf_config.get("model_type"):
        raise UsageError(f"{model.class_name} has no configuration of transformers")
    return {name: value for name, value in model.hf_config.items() if name not in _NO_PART}


def _auto_class(model: ModelInfo) -> str:
    ending, seq2seq = _SEQ2SEQ
    if model.class_name.endswith(ending) and (model.hf_config or {}).get("is_encoder_decoder"):
        return seq2seq
    for ending, auto_class in _AUTO_CLASSES:
        if model.class_name.endswith(ending):
            return auto_class
    raise UsageError(f"{model.class_name} is no class of transformers that vramtop can make")


def _precision(model: ModelInfo, notes: list[str]) -> tuple[str, str | None]:
    """(precision, compute dtype of quantised layers) of the weights and autocast."""
    autocast = _DTYPES.get(model.autocast or "")
    if model.quantized is not None:
        name = _QUANTIZED.get(model.quantized)
        if name is None:
            raise UsageError(f"parameters of the class {model.quantized} cannot be made here")
        settings = (model.hf_config or {}).get("quantization_config") or {}
        told = str(settings.get("bnb_4bit_compute_dtype", "")).rpartition(".")[2]
        return name, autocast or _DTYPES.get(told)
    # Adapters are fp32 over weights of any dtype: the largest part says.
    counts = {dtype: n for dtype, n in model.parameters_by_dtype.items() if dtype in _DTYPES}
    if not counts:
        raise UsageError(f"{model.class_name} has parameters of no dtype that vramtop can make")
    weights = _DTYPES[max(counts, key=lambda dtype: counts[dtype])]
    if autocast is None:
        return weights, None
    if weights != "fp32":
        notes.append(f"autocast over {weights} weights is predicted as {weights} throughout")
        return weights, None
    return f"amp-{autocast}", None


def _attention(model: ModelInfo, notes: list[str]) -> str:
    kind = model.attention or "sdpa"
    if kind.startswith("flash_attention"):
        return "flash"
    if kind not in ("sdpa", "eager"):
        notes.append(f"attention {kind} is predicted as sdpa")
    return "sdpa"


def _lora(model: ModelInfo) -> Lora | None:
    if model.lora is None:
        return None
    dtypes = [_DTYPES[dtype] for dtype in model.trainable_by_dtype if dtype in _DTYPES]
    return Lora(
        rank=int(model.lora["rank"]),
        targets=tuple(model.lora.get("targets") or ()),
        dropout=float(model.lora.get("dropout") or 0.0),
        dtype=dtypes[0] if len(dtypes) == 1 else None,
        prepared=not {"float16", "bfloat16"} & model.parameters_by_dtype.keys(),
    )


def _micro_batches(detail: Detail | None) -> int:
    """Forwards of one step; a validation's have no backward."""
    counts = [p.count for p in detail.phases if p.name in ("forward", "backward")] if detail else []
    return min(counts, default=1)


def _zero_grad(detail: Detail | None) -> Any:
    names = [phase.name for phase in detail.phases] if detail else []
    if "zero_grad" in names and "backward" in names and "forward" in names:
        forward, zero, backward = (names.index(n) for n in ("forward", "zero_grad", "backward"))
        if forward < zero < backward:
            return "before-backward"
    return "after-step"


def _loss(model: ModelInfo) -> Any:
    names = {name.rpartition(".")[2] for name in model.arguments}
    return "outside" if names and "labels" not in names else "model"


def _parallel(process: Process, model: ModelInfo, notes: list[str]) -> Parallel:
    world = process.probe.world_size or 1
    if world == 1 or not model.wrappers:
        return Parallel()
    if any(name.startswith(("FSDP", "FullySharded")) for name in model.wrappers):
        notes.append("FSDP is predicted as full shard over all ranks")
        return Parallel(gpus=world, zero=3)
    return Parallel(gpus=world)


def without_place(workload: Workload) -> Workload:
    """Without the size of the device, which changes with what other processes hold."""
    device = workload.device
    return replace(workload, device=device and replace(device, total_bytes=0))
