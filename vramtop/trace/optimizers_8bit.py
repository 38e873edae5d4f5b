"""Optimizers of bitsandbytes: the states that they allocate, updated by kernels in place.

Source: bitsandbytes 0.50, optim/optimizer.py (``Optimizer8bit.get_state_buffer``,
``Optimizer2State.init_state``, ``Optimizer1State.init_state``) and backends/cuda/ops.py, whose
update kernels allocate nothing.
"""

from __future__ import annotations

from typing import Any, Final

import torch

BLOCK: Final = 256
"""Elements that share one fp32 absmax."""
MIN_8BIT: Final = 4096
"""A parameter with fewer elements has fp32 states."""
MIN_PAGED: Final = 100_000
"""A parameter with fewer elements has states that are not paged (``p.numel() < 1e5``)."""
_STATES: Final = {"adam": 2, "lion": 1}
_MAPS: Final = ("dynamic", "udynamic")
"""Quantisation maps of 256 fp32 values, one of each for all parameters."""


class Managed:
    """A state in CUDA managed memory, which is not torch's allocator's: no tensor here."""


class BnbOptimizer(torch.optim.Optimizer):  # type: ignore[misc]
    """Adam(W) or Lion with 8- or 32-bit states.

    8-bit: uint8 states, an fp32 absmax for each block of 256 elements, and two quantisation maps;
    fp32 states for parameters below 4096 elements and for those in ``keep_fp32`` (ids), as Trainer
    keeps embeddings. ``paged``: large states are ``Managed``, their absmax is not.
    """

    def __init__(
        self,
        parameters: Any,
        kind: str,
        *,
        bits: int,
        paged: bool = False,
        keep_fp32: set[int] | None = None,
    ) -> None:
        super().__init__(parameters, {"lr": 1e-3})
        self._count, self._bits, self._paged = _STATES[kind], bits, paged
        self._keep_fp32 = keep_fp32 or set()
        self._maps: list[Any] = []

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, _closure: Any = None) -> None:
        """Make states where there are none; the kernels then change them in place."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if not self.state[parameter]:
                    self._init_state(parameter)
                parameter.grad = parameter.grad.contiguous()

    def _init_state(self, parameter: Any) -> None:
        state = self.state[parameter]
        numbers = range(1, self._count + 1)
        if self._bits == 32 or parameter.numel() < MIN_8BIT or id(parameter) in self._keep_fp32:
            for i in numbers:
                state[f"state{i}"] = self._buffer(parameter, torch.float32)
            return
        if not self._maps:
            self._maps = [torch.empty(256) for _ in _MAPS[: self._count]]
        for i in numbers:
            state[f"state{i}"] = self._buffer(parameter, torch.uint8)
            state[f"qmap{i}"] = self._maps[i - 1]
        for i in numbers:
            state[f"absmax{i}"] = torch.zeros(-(-parameter.numel() // BLOCK))

    def _buffer(self, parameter: Any, dtype: Any) -> Any:
        if self._paged and parameter.numel() >= MIN_PAGED:
            return Managed()
        return torch.zeros_like(parameter, dtype=dtype)
