"""What can be turned of a workload on the what-if screen: values, their words, and how to set them.

Setting one control changes others only where the workload would be impossible without, and what
goes then is what the user has just made impossible.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..core.units import format_bytes
from .catalog import gpus, models, short_name
from .checks import FOREACH, FUSED, GENERATING, STACK_OPTIMIZERS
from .config_numbers import is_image_model, longest_sequence
from .judge import HOST_RAM, MOST_BATCH
from .strategies import GPU_COUNTS, name_of, strategies, with_gpus
from .workload import (
    ATTENTIONS,
    CHECKPOINTINGS,
    OPTIMIZERS,
    PRECISIONS,
    QUANTIZED,
    Device,
    Lora,
    Model,
    Parallel,
    Workload,
)

_RANKS: Final = (0, 4, 8, 16, 32, 64, 128, 256)
_USUAL_RANK: Final = 16
_LAST_BATCH: Final = 4096
"""The slider's end; more can be typed."""
_LAST_SEQUENCE: Final = 131_072
_USUAL_SEQUENCE: Final = 2048
_MAKERS: Final = ("NVIDIA ", "Tesla ", "GeForce ")


@dataclass(frozen=True, slots=True)
class Control:
    """One thing to turn. ``home`` is the workload that the user began with: its values are kept."""

    name: str
    label: str
    values: Callable[[Workload, Workload], Sequence[Any]]
    """(workload, home) → what can be chosen, ascending; () where it has no meaning."""
    get: Callable[[Workload], Any]
    put: Callable[[Workload, Any], Workload]
    text: Callable[[Any], str]
    most: int | None = None
    """Numbers may be typed up to it, also such as are not among the values; None: a list."""


def texts_of(workload: Workload) -> dict[str, str]:
    """What every control says of a workload, by name."""
    return {control.name: control.text(control.get(workload)) for control in CONTROLS}


def control_of(name: str) -> Control:
    """The control of that name."""
    return next(control for control in CONTROLS if control.name == name)


def stops(last: int, parts: int) -> tuple[int, ...]:
    """Numbers from 1 to ``last``: each one up to twice ``parts``, then ``parts`` a doubling."""
    found, number, step = [], 1, 1
    while number < last:
        found.append(number)
        if number >= 2 * parts * step:
            step *= 2
        number += step
    return (*found, last)


def _with(values: Sequence[Any], *own: Any) -> tuple[Any, ...]:
    """The values, with a workload's own where they are not among them."""
    found = list(values)
    for one in own:
        if one not in found:
            found.insert(0, one)
    return tuple(found)


def _numbers(values: Sequence[int], *own: int) -> tuple[int, ...]:
    return tuple(sorted({*values, *own}))


def _models(workload: Workload, home: Workload) -> tuple[Model, ...]:
    return _with(models(), workload.model, home.model)


def _put_model(workload: Workload, model: Model) -> Workload:
    """Another model: of the old one's sequence and layout what it can have."""
    config = model.config or {}
    has_words = model.config is None or model.auto_class in GENERATING
    new_tokens = workload.new_tokens if has_words else 0
    if is_image_model(config):
        sequence = 1
    else:
        was_image = is_image_model(workload.model.config or {})
        sequence = _USUAL_SEQUENCE if was_image else workload.sequence
        most = longest_sequence(config)
        if most is not None:
            sequence = max(min(sequence, most - new_tokens), 1)
    lora = workload.lora
    changed = dataclasses.replace(
        workload,
        model=model,
        sequence=sequence,
        new_tokens=new_tokens,
        kv_dtype=workload.kv_dtype if new_tokens else None,
        chunked_loss=workload.chunked_loss and has_words,
        # Module names are a model's own.
        lora=None if lora is None else dataclasses.replace(lora, targets=()),
    )
    return with_gpus(changed, changed.parallel.gpus)


def _batches(workload: Workload, home: Workload) -> tuple[int, ...]:
    return _numbers(stops(_LAST_BATCH, 16), workload.batch, home.batch)


def _sequences(workload: Workload, home: Workload) -> tuple[int, ...]:
    config = workload.model.config or {}
    if is_image_model(config):
        return ()
    most = (longest_sequence(config) or _LAST_SEQUENCE) - workload.new_tokens
    usual = [size for size in (16, 32, 64, *(128 * n for n in stops(1024, 4))) if size < most]
    return _numbers([*usual, most], workload.sequence, min(home.sequence, most))


def _put_sequence(workload: Workload, sequence: int) -> Workload:
    changed = dataclasses.replace(workload, sequence=sequence)
    parallel = changed.parallel
    if parallel.sequence and sequence // parallel.context % parallel.tensor:
        parallel = dataclasses.replace(parallel, sequence=False)
    return dataclasses.replace(changed, parallel=parallel)


def _put_precision(workload: Workload, precision: str) -> Workload:
    """Quantised weights are not trained themselves: adapters are, so they come with them."""
    lora = workload.lora
    if workload.training and precision in QUANTIZED and lora is None:
        lora = Lora(_USUAL_RANK)
    return dataclasses.replace(
        workload,
        precision=precision,
        lora=lora,
        compute_dtype=workload.compute_dtype if precision in QUANTIZED else None,
        double_quantization=workload.double_quantization and precision == "nf4",
        attention="sdpa"
        if workload.attention == "flash" and precision == "fp32"
        else workload.attention,
    )


def _optimizers(workload: Workload, home: Workload) -> tuple[str, ...]:
    if not workload.training:
        return ()
    return _with(STACK_OPTIMIZERS.get(workload.stack, OPTIMIZERS), home.optimizer)


def _put_optimizer(workload: Workload, optimizer: str) -> Workload:
    implementation = workload.optimizer_implementation
    able = {"fused": FUSED, "foreach": FOREACH}.get(implementation or "")
    return dataclasses.replace(
        workload,
        optimizer=optimizer,
        optimizer_implementation=implementation if able is None or optimizer in able else None,
    )


def _put_lora(workload: Workload, rank: int) -> Workload:
    """Without adapters weights must be such as can be trained."""
    if rank:
        lora = workload.lora or Lora(rank)
        return dataclasses.replace(workload, lora=dataclasses.replace(lora, rank=rank))
    changed = dataclasses.replace(workload, lora=None)
    if workload.training and workload.precision in QUANTIZED:
        changed = _put_precision(changed, workload.activation_dtype)
    return changed


def _put_parallel(workload: Workload, parallel: Parallel) -> Workload:
    return dataclasses.replace(workload, parallel=parallel)


def _accumulations(workload: Workload, home: Workload) -> tuple[int, ...]:
    if not workload.training or workload.parallel.pipeline > 1:
        return ()
    return _numbers(stops(256, 4), workload.grad_accumulation, home.grad_accumulation)


def _devices(workload: Workload, home: Workload) -> tuple[Device, ...]:
    own = [device for device in (workload.device, home.device) if device is not None]
    return tuple(sorted(_with(gpus(), *own), key=lambda device: device.total_bytes))


def _put_device(workload: Workload, device: Device) -> Workload:
    """The host's RAM is another backend's, which has one place and steps in another way."""
    if (device.name == HOST_RAM) == (workload.backend == "cpu"):
        return dataclasses.replace(workload, device=device)
    return dataclasses.replace(
        workload,
        device=device,
        backend="cpu" if device.name == HOST_RAM else "cuda",
        optimizer_implementation=None,
        parallel=Parallel(),
    )


def _gpu_counts(workload: Workload, home: Workload) -> tuple[int, ...]:
    if workload.backend == "cpu":
        return ()
    return _numbers(GPU_COUNTS, workload.parallel.gpus, home.parallel.gpus)


def short_device(name: str) -> str:
    """A GPU's name without its maker's."""
    for maker in _MAKERS:
        name = name.removeprefix(maker)
    return name


def _device_text(device: Device | None) -> str:
    if device is None:
        return "none"
    return f"{short_device(device.name)} · {format_bytes(device.total_bytes)}"


def _replaces(field: str) -> Callable[[Workload, Any], Workload]:
    return lambda workload, value: dataclasses.replace(workload, **{field: value})


CONTROLS: Final = (
    Control("model", "model", _models, lambda w: w.model, _put_model, short_name),
    Control(
        "batch",
        "micro-batch",
        _batches,
        lambda w: w.batch,
        _replaces("batch"),
        "{:,}".format,
        most=MOST_BATCH,
    ),
    Control(
        "sequence",
        "tokens",
        _sequences,
        lambda w: w.sequence,
        _put_sequence,
        "{:,}".format,
        most=_LAST_SEQUENCE,
    ),
    Control(
        "precision",
        "precision",
        lambda *_: PRECISIONS,
        lambda w: w.precision,
        _put_precision,
        str,
    ),
    Control("optimizer", "optimizer", _optimizers, lambda w: w.optimizer, _put_optimizer, str),
    Control(
        "checkpointing",
        "checkpointing",
        lambda w, _: CHECKPOINTINGS if w.training else (),
        lambda w: w.checkpointing,
        _replaces("checkpointing"),
        str,
    ),
    Control(
        "lora",
        "LoRA rank",
        lambda w, home: _numbers(_RANKS, *(x.lora.rank for x in (w, home) if x.lora)),
        lambda w: w.lora.rank if w.lora else 0,
        _put_lora,
        lambda rank: str(rank) if rank else "off",
        most=4096,
    ),
    Control(
        "attention",
        "attention",
        lambda *_: ATTENTIONS,
        lambda w: w.attention,
        _replaces("attention"),
        str,
    ),
    Control(
        "grad_accumulation",
        "accumulated",
        _accumulations,
        lambda w: w.grad_accumulation,
        _replaces("grad_accumulation"),
        "{:,}".format,
        most=1 << 16,
    ),
    Control(
        "gpus",
        "GPUs",
        _gpu_counts,
        lambda w: w.parallel.gpus,
        with_gpus,
        "{:,}".format,
        most=1 << 14,
    ),
    Control(
        "strategy",
        "strategy",
        lambda w, _: strategies(w) if w.backend == "cuda" else (),
        lambda w: w.parallel,
        _put_parallel,
        name_of,
    ),
    Control("gpu", "GPU", _devices, lambda w: w.device, _put_device, _device_text),
)
"""In the order in which they are shown."""


def apply_advice(workload: Workload, options: Mapping[str, str]) -> Workload:
    """The workload with the options of a piece of advice set (``result.Advice.options``)."""
    changed = workload
    for option, value in options.items():
        changed = _OPTIONS[option](changed, value)
    return changed


def _run_by_trainer(workload: Workload, stack: str) -> Workload:
    """The loop alone changes, not how the optimizer steps."""
    return dataclasses.replace(
        workload, stack=stack, optimizer_implementation=workload.implementation
    )


def _in_parallel(**changes: Any) -> Callable[[Workload], Workload]:
    return lambda w: dataclasses.replace(w, parallel=dataclasses.replace(w.parallel, **changes))


_OPTIONS: Final[dict[str, Callable[[Workload, str], Workload]]] = {
    "--attention": _replaces("attention"),
    "--fused": lambda w, _: dataclasses.replace(w, optimizer_implementation="fused"),
    "--optimizer": lambda w, name: dataclasses.replace(
        w, optimizer=name, optimizer_implementation=None
    ),
    "--chunked-loss": lambda w, _: dataclasses.replace(w, chunked_loss=True),
    "--stack": _run_by_trainer,
    "--checkpointing": _replaces("checkpointing"),
    "--batch": lambda w, text: dataclasses.replace(w, batch=int(text)),
    "--grad-accumulation": lambda w, text: dataclasses.replace(w, grad_accumulation=int(text)),
    "--seq": lambda w, text: dataclasses.replace(w, sequence=int(text)),
    "--precision": _replaces("precision"),
    "--lora": lambda w, text: dataclasses.replace(w, lora=Lora(int(text))),
    "--double-quant": lambda w, _: dataclasses.replace(w, double_quantization=True),
    "--kv-dtype": _replaces("kv_dtype"),
    "--sp": lambda w, _: _in_parallel(sequence=True)(w),
    "--zero": lambda w, text: _in_parallel(zero=int(text))(w),
    "--alloc-conf": lambda w, _: dataclasses.replace(
        w, allocator=dataclasses.replace(w.allocator, expandable_segments=True)
    ),
}
"""Every option that ``advise`` may give; of --alloc-conf it knows expandable_segments alone."""
