"""The optimizer of a workload: the real class where torch or transformers has it.

States and temporaries are those of a step on the workload's backend. What optimizers keep on the
host (step counts) is made as they make it, by ``torch.tensor(0.0)``, which the recorder passes over
where the rest is on CUDA.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import torch
from torch.overrides import TorchFunctionMode

from ..errors import UsageError
from ..estimator.workload import Workload
from .optimizers_8bit import BnbOptimizer

Named = Iterable[Any]
"""Parameters, or (name, parameter)."""

_FUSED: Final = ("adamw", "adam", "sgd", "sgd-momentum", "adagrad")
"""torch.optim classes with ``fused=True``."""
_ONE_WAY: Final = ("lion", "muon", "adamw-8bit", "adam-8bit", "lion-8bit", "paged-adamw-8bit")
"""Those that loop over parameters and know neither foreach nor fused."""
_LEARNING_RATE: Final = 1e-3
_NOT_FOR_MUON: Final = ("embed", "wte", "wpe", "shared", "head", "score", "classifier", "pooler")


def make_optimizer(workload: Workload, parameters: Named) -> Any:
    """The optimizer that steps the parameters; its first step makes the states.

    ``parameters``: trainable parameters, or (name, parameter) as ``named_parameters`` gives them;
    the names tell embeddings and heads, which muon and 8-bit optimizers of transformers' Trainer
    treat apart. Returns a ``torch.optim.Optimizer``.

    Which class: ``torch.optim`` for adamw, adam, sgd, sgd-momentum, adagrad, rmsprop; adafactor is
    transformers' with Trainer (``trainer_optimizer._get_adafactor``), else torch's; lion is
    bitsandbytes' 32-bit one with Trainer, else lion-pytorch's; muon is torch's for the matrices
    between embedding and head, and AdamW for the rest (Jordan 2024, kellerjordan.github.io/posts/
    muon); ``*-8bit`` are bitsandbytes'.

    Raises:
        UsageError: there is no such implementation of the optimizer.
    """
    name = workload.optimizer
    _check(workload)
    pairs = [item if isinstance(item, tuple) else ("", item) for item in parameters]
    plain = [parameter for _, parameter in pairs]
    trainer = workload.stack == "hf-trainer"
    if name.endswith("-8bit"):
        fp32 = {id(p) for n, p in pairs if trainer and _is_embedding(n)}
        kind = "lion" if name.startswith("lion") else "adam"
        return BnbOptimizer(plain, kind, bits=8, paged=name.startswith("paged"), keep_fp32=fp32)
    if name == "lion":
        return BnbOptimizer(plain, "lion", bits=32) if trainer else Lion(plain)
    if name == "muon":
        return MuonWithAdamW(pairs, workload.implementation != "forloop")
    if name == "adafactor":
        if trainer:
            return _transformers_adafactor(plain)
        return Adafactor(plain, foreach=workload.implementation == "foreach")
    return _torch_optimizer(workload, plain)


def _check(workload: Workload) -> None:
    name, asked = workload.optimizer, workload.optimizer_implementation
    if asked == "fused" and name not in _FUSED:
        raise UsageError(f"{name} has no fused step; {', '.join(_FUSED)} have one")
    if asked == "foreach" and name in _ONE_WAY:
        raise UsageError(f"{name} has no foreach step; leave --foreach out")


def _torch_optimizer(workload: Workload, parameters: list[Any]) -> Any:
    name, how = workload.optimizer, workload.implementation
    if how == "fused" and name not in _FUSED:
        how = "foreach"
    options: dict[str, Any] = {"foreach": how == "foreach"}
    if name in _FUSED:
        options["fused"] = how == "fused"
    if name == "sgd-momentum":
        options["momentum"] = 0.9
    classes = {
        "adamw": torch.optim.AdamW,
        "adam": torch.optim.Adam,
        "sgd": torch.optim.SGD,
        "sgd-momentum": torch.optim.SGD,
        "adagrad": torch.optim.Adagrad,
        "rmsprop": RMSprop,
    }
    return classes[name](parameters, lr=_LEARNING_RATE, **options)


def _transformers_adafactor(parameters: list[Any]) -> Any:
    from transformers.optimization import Adafactor as TransformersAdafactor

    # What Trainer passes with --optim adafactor.
    return TransformersAdafactor(
        parameters, lr=_LEARNING_RATE, scale_parameter=False, relative_step=False
    )


def _is_embedding(name: str) -> bool:
    return any(part in name for part in ("embed", "wte", "wpe", "shared"))


class RMSprop(torch.optim.RMSprop):  # type: ignore[misc]
    """torch's; its step counts, made by ``torch.zeros(())`` on the host, as ``torch.tensor``."""

    def _init_group(self, group: Any, *lists: Any) -> Any:
        for parameter in group["params"]:
            state = self.state[parameter]
            if parameter.grad is not None and not state:
                state["step"] = torch.tensor(0.0)
                state["square_avg"] = torch.zeros_like(
                    parameter, memory_format=torch.preserve_format
                )
        return super()._init_group(group, *lists)


class _AnyNumber(TorchFunctionMode):  # type: ignore[misc]
    """``item()`` gives 1.0: fake tensors have no values, and no size hangs on these."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.item:
            return 1.0
        return func(*args, **(kwargs or {}))


class Adafactor(torch.optim.Adafactor):  # type: ignore[misc]
    """torch's, with the norms that it reads back from the GPU taken to be 1."""

    def step(self, closure: Any = None) -> Any:
        """One step."""
        with _AnyNumber():
            return super().step(closure)


class Lion(torch.optim.Optimizer):  # type: ignore[misc]
    """One state in the parameter's dtype, one parameter's update as a temporary at a time.

    As lion_pytorch/lion_pytorch.py (lucidrains), without its weight decay, which is in place.
    """

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": _LEARNING_RATE})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, _closure: Any = None) -> None:
        """One step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["exp_avg"] = torch.zeros_like(parameter)
                _lion_update(parameter, state["exp_avg"], group["lr"])


def _lion_update(parameter: Any, average: Any, rate: float) -> None:
    # A function of its own, as there: the update goes before the next parameter's is made.
    update = average.clone().mul_(0.9).add(parameter.grad, alpha=0.1).sign_()
    parameter.add_(update, alpha=-rate)
    average.mul_(0.99).add_(parameter.grad, alpha=0.01)


class MuonWithAdamW(torch.optim.Optimizer):  # type: ignore[misc]
    """torch.optim.Muon for matrices, AdamW for embeddings, heads and what is no matrix."""

    def __init__(self, pairs: list[tuple[str, Any]], foreach: bool) -> None:
        matrices = [
            p for n, p in pairs if p.dim() == 2 and not any(part in n for part in _NOT_FOR_MUON)
        ]
        chosen = {id(p) for p in matrices}
        others = [p for _, p in pairs if id(p) not in chosen]
        super().__init__([p for _, p in pairs], {"lr": _LEARNING_RATE})
        self._parts: list[Any] = []
        if matrices:
            self._parts.append(torch.optim.Muon(matrices, lr=_LEARNING_RATE))
        if others:
            self._parts.append(torch.optim.AdamW(others, lr=_LEARNING_RATE, foreach=foreach))
        for part in self._parts:
            part.state = self.state

    def step(self, _closure: Any = None) -> None:
        """One step of each."""
        for part in self._parts:
            part.step()
