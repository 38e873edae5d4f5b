"""PEFT's LoRA layers over our quantised linears, as its own over those of bitsandbytes."""

from __future__ import annotations

from typing import Any, Final

import torch
from peft.tuners.lora.layer import Linear

from .quantized import Linear4bit, Linear8bitLt


class _QuantizedLora(Linear):  # type: ignore[misc]
    """One adapter over a quantised layer, as in peft/tuners/lora/bnb.py.

    Other than PEFT's ``Linear``, it casts nothing under autocast, and the adapter's output, not
    the sum, goes back to the dtype of the base layer's.
    """

    clones = False

    def forward(self, x: Any, *_args: Any, **_kwargs: Any) -> Any:
        """The base layer's output plus the adapter's."""
        result = self.base_layer(x)
        if self.clones:
            result = result.clone()
        for name in self.active_adapters:
            inner = self.lora_A[name]
            converts = not _autocasting()
            if converts:
                dtype = result.dtype
                x = self._cast_input_dtype(x, inner.weight.dtype)
            output = self.lora_B[name](inner(self.lora_dropout[name](x))) * self.scaling[name]
            if converts:
                output = output.to(dtype)
            result = result + output
        return result


def _autocasting() -> bool:
    # Traced on the CPU, where CUDA would be asked.
    return bool(torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"))


class Lora8bit(_QuantizedLora):
    """``peft.tuners.lora.bnb.Linear8bitLt``."""


class Lora4bit(_QuantizedLora):
    """``peft.tuners.lora.bnb.Linear4bit``, which copies the base layer's output first."""

    clones = True


CUSTOM_LAYERS: Final = {Linear4bit: Lora4bit, Linear8bitLt: Lora8bit}
"""For ``LoraConfig._register_custom_module``: what stands over which layer."""
