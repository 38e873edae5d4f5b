"""The model of a workload on the meta device, with no more layers than need be traced."""

from __future__ import annotations

import copy
import difflib
import importlib
import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from ..errors import UsageError
from ..estimator.config_numbers import longest_sequence
from ..estimator.layers import STACK_STRIDE, Stack, traced_depth
from ..estimator.workload import Workload
from .attention import FLASH_IMPLEMENTATION, register_flash
from .rank import rank_config
from .recorder import Recorder

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_ATTENTION = {"sdpa": "sdpa", "eager": "eager", "flash": FLASH_IMPLEMENTATION}


@dataclass(slots=True)
class Built:
    """A model that can be traced, and how its layers repeat."""

    model: Any
    stacks: list[Stack] = field(default_factory=list)
    irregular: int = 0
    step: Any = None
    """The user's own step: a callable (model, batch, sequence) -> loss."""
    complete: bool = False
    """Quantised and with its adapters already."""

    @property
    def layers(self) -> dict[str, int]:
        """The tag of every repeated layer by its path."""
        return {
            f"{stack.prefix}.{i}": stack.number * STACK_STRIDE + i
            for stack in self.stacks
            for i in range(stack.traced)
        }


def build(workload: Workload, *, whole: bool = False) -> Built:
    """The model on the meta device; ``whole``: with all its layers.

    Raises:
        UsageError: transformers cannot make it, or the user's function cannot be called.
    """
    if workload.model.entry is not None:
        return _from_entry(workload, workload.model.entry)
    if workload.stack in ("litgpt", "lit-gpt"):
        return _from_litgpt(workload, whole=whole)
    return _from_config(workload, whole=whole)


def make_config(model_type: str, arguments: dict[str, Any]) -> Any:
    """The transformers configuration.

    Raises:
        UsageError: the type is unknown to transformers or the values are wrong for it.
    """
    import transformers
    from transformers import CONFIG_MAPPING, AutoConfig

    if model_type not in CONFIG_MAPPING:
        near = difflib.get_close_matches(model_type, CONFIG_MAPPING.keys(), 3)
        raise UsageError(
            f"model_type {model_type!r} is unknown to transformers {transformers.__version__}"
            + (f"; close: {', '.join(near)}" if near else "")
        )
    try:
        return AutoConfig.for_model(model_type, **arguments)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"transformers cannot use this configuration: {first}") from None


def _from_config(workload: Workload, *, whole: bool) -> Built:
    import transformers

    arguments = dict(workload.model.config or {})
    config = rank_config(make_config(arguments.pop("model_type"), arguments), workload)
    if getattr(config, "is_encoder_decoder", False):
        # Labels are shifted behind a start token, whose number changes nothing here.
        config.decoder_start_token_id = getattr(config, "decoder_start_token_id", None) or 0
    depth = int(config.num_hidden_layers)
    irregular, period = _rhythm(config, depth)
    # An encoder's last layer gets its gradient from a whole decoder.
    tail = 2 if getattr(config, "is_encoder_decoder", False) else 1
    traced = depth if whole else traced_depth(depth, period, irregular, tail)
    _cut_layers(config, depth, traced)
    auto = getattr(transformers, workload.model.auto_class)
    attention = _ATTENTION[workload.attention]
    if workload.attention == "flash":
        register_flash()
    try:
        with torch.device("meta"):
            try:
                model = _make(auto, config, workload, attention)
            except ValueError as error:
                if workload.attention != "sdpa" or "scaled_dot_product" not in str(error):
                    raise
                # transformers itself falls back to eager where a model has no SDPA path.
                model = _make(auto, config, workload, "eager")
    except (ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"{workload.model.name} cannot be built: {first}") from None
    model.train(workload.training)
    return Built(model, _stacks(model, depth, traced, period), irregular)


def _from_litgpt(workload: Workload, *, whole: bool) -> Built:
    from .stacks import litgpt

    depth = litgpt.depth(workload)
    period = litgpt.period(workload)
    traced = depth if whole else traced_depth(depth, period)
    module, step = litgpt.build(workload, traced, double_quantized=workload.double_quantization)
    return Built(module, _stacks(module, depth, traced, period), step=step, complete=True)


def _make(auto: Any, config: Any, workload: Workload, attention: str) -> Any:
    return auto.from_config(
        config, dtype=DTYPES[workload.weight_dtype], attn_implementation=attention
    )


def _rhythm(config: Any, depth: int) -> tuple[int, int]:
    """(irregular layers at the beginning, period) of what the configuration says of each layer."""
    kinds: list[Any] = [
        value
        for value in vars(config).values()
        if isinstance(value, (list, tuple)) and len(value) == depth
    ]
    dense = getattr(config, "first_k_dense_replace", 0) or 0
    kinds.append([i < dense for i in range(depth)])
    rows = [tuple(str(kind[i]) for kind in kinds) for i in range(depth)]
    fits = [
        (irregular + period, irregular, period)
        for irregular in range(depth)
        for period in range(1, depth - irregular + 1)
        if rows[irregular + period :] == rows[irregular : depth - period]
    ]
    _, irregular, period = min(fits)
    return irregular, period


def _cut_layers(config: Any, depth: int, traced: int) -> None:
    if depth == traced:
        return
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == depth:
            setattr(config, name, value[:traced])
    config.num_hidden_layers = traced
    if getattr(config, "num_decoder_layers", None) == depth:
        config.num_decoder_layers = traced


def _stacks(model: Any, depth: int, traced: int, period: int) -> list[Stack]:
    found: list[Stack] = []
    for path, module in model.named_modules():
        if not isinstance(module, torch.nn.ModuleList) or len(module) != traced:
            continue
        if any(path.startswith(stack.prefix + ".") for stack in found):
            continue
        found.append(Stack(path, depth, traced, period, len(found)))
    return found


def find_again(built: Built, model: Any) -> None:
    """After adapters were put around the model: its layers have other paths."""
    for i, stack in enumerate(built.stacks):
        for path, module in model.named_modules():
            if isinstance(module, torch.nn.ModuleList) and (
                path == stack.prefix or path.endswith("." + stack.prefix)
            ):
                built.stacks[i] = Stack(path, stack.depth, stack.traced, stack.period, stack.number)
    built.model = model


def _from_entry(workload: Workload, entry: str) -> Built:
    place, _, name = entry.rpartition(":")
    module = _import(place)
    function = getattr(module, name, None)
    if not callable(function):
        what = "no function" if function is None else "something that cannot be called as"
        raise UsageError(f"{place} has {what} {name!r}")
    try:
        with torch.device("meta"):
            made = function()
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise UsageError(f"{entry} failed: {_first_line(error)}") from None
    model, step = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"{entry} returned {type(model).__name__}, not a torch.nn.Module")
    if step is None:
        _positions(workload, model)
    else:
        _of_own_step(workload, entry)
    if workload.weight_dtype != "fp32":  # which is: as the function makes them
        model.to(DTYPES[workload.weight_dtype])
    return Built(model, step=step)


def _positions(workload: Workload, model: Any) -> None:
    """On fake tensors a position beyond the last raises nothing; with real ones it does."""
    config: Any = getattr(model, "config", None)
    most = longest_sequence(config.to_dict()) if hasattr(config, "to_dict") else None
    if most is not None and workload.sequence + workload.new_tokens > most:
        raise UsageError(f"{type(model).__name__} takes at most {most} tokens: --seq {most}")


def _of_own_step(workload: Workload, entry: str) -> None:
    for option, given in (
        ("--chunked-loss", workload.chunked_loss),
        ("--new-tokens", workload.new_tokens > 0),
    ):
        if given:
            raise UsageError(f"{option}: {entry} has a step of its own, which is run as it is")


def _import(place: str) -> ModuleType:
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(place).stem, place)
            if spec is None or spec.loader is None or not Path(place).exists():
                raise UsageError(f"there is no file {place}")
            module = importlib.util.module_from_spec(spec)
            sys.modules[Path(place).stem] = module
            spec.loader.exec_module(module)
            return module
        sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(place)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise UsageError(f"{place} cannot be imported: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "it ends the process (sys.exit), as a script without __name__ == '__main__' may"
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def materialise(built: Built, recorder: Recorder) -> None:
    """Give the meta model storages, under the fake mode and the recorder that are entered.

    Shared tensors stay shared: the tied head of a language model is one storage.
    """
    layers = built.layers
    memo: dict[int, Any] = {}
    for path, module in built.model.named_modules():
        recorder.place(path, layers)
        for tensors in (module._parameters, module._buffers):
            for name, tensor in list(tensors.items()):
                if tensor is None or not tensor.is_meta:
                    continue
                if id(tensor) not in memo:
                    memo[id(tensor)] = _real(tensor)
                tensors[name] = memo[id(tensor)]
    del memo
    _tie(built.model)
    recorder.place("", layers)


def _real(tensor: Any) -> Any:
    empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    if not isinstance(tensor, torch.nn.Parameter):
        return empty
    made = torch.nn.Parameter(empty, requires_grad=tensor.requires_grad)
    made.__dict__.update(copy.copy(tensor.__dict__))
    return made


def _tie(model: Any) -> None:
    tie = getattr(model, "tie_weights", None)
    if callable(tie):
        tie()
