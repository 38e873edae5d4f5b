"""LoRA adapters: PEFT itself, on the meta model."""

from __future__ import annotations

import warnings
from typing import Any, Final

import torch
from torch import nn

from ..errors import UsageError
from ..estimator.workload import Workload

_TASKS: Final = {
    "AutoModelForCausalLM": "CAUSAL_LM",
    "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
    "AutoModelForSequenceClassification": "SEQ_CLS",
    "AutoModelForTokenClassification": "TOKEN_CLS",
}
_DTYPES: Final = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_NAMES_SHOWN: Final = 12


def add_lora(model: Any, workload: Workload) -> Any:
    """The PEFT model around a model on the meta device; all but the adapters is frozen.

    Adapters are fp32 over fp16 and bf16 weights, as ``get_peft_model`` makes them
    (``autocast_adapter_dtype``); other stacks than transformers' keep them in the weights' dtype.

    Raises:
        UsageError: no module has the name of a target, or PEFT has no default for the model.
    """
    lora = workload.lora
    if lora is None:
        return model
    # Imported here, as only these workloads need it: it takes as long as transformers.
    from peft import LoraConfig, get_peft_model

    from .lora_layers import CUSTOM_LAYERS

    targets: Any = "all-linear" if lora.targets == ("all-linear",) else list(lora.targets) or None
    if isinstance(targets, list):
        _check_targets(model, targets)
    config = LoraConfig(
        r=lora.rank,
        target_modules=targets,
        lora_dropout=lora.dropout,
        task_type=_TASKS.get(workload.model.auto_class),
    )
    config._register_custom_module(CUSTOM_LAYERS)
    own = _DTYPES[workload.adapter_dtype]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peft = get_peft_model(
                model, config, autocast_adapter_dtype=False, low_cpu_mem_usage=True
            )
    except ValueError as error:
        if targets is None:
            raise UsageError(
                f"PEFT knows no LoRA targets for {workload.model.name}; give --lora-targets: "
                f"{_names(model) or 'all-linear'}"
            ) from None
        raise UsageError(f"PEFT: {str(error).splitlines()[0]}") from None
    for parameter in peft.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(own)
    return peft.train(workload.training)


def _check_targets(model: Any, targets: list[str]) -> None:
    paths = [path for path, _ in model.named_modules()]
    for target in targets:
        if not any(path == target or path.endswith("." + target) for path in paths):
            raise UsageError(f"the model has no module {target!r}; it has {_names(model)}")


def _names(model: Any) -> str:
    from transformers.pytorch_utils import Conv1D

    names = [
        path.rpartition(".")[2]
        for path, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Embedding, Conv1D))
    ]
    different = list(dict.fromkeys(name for name in names if not name.isdigit()))
    more = ", …" if len(different) > _NAMES_SHOWN else ""
    return ", ".join(different[:_NAMES_SHOWN]) + more
