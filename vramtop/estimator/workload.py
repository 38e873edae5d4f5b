"""What is asked: a model, what is done with it, how it is spread over GPUs, and the device.

Plain values that go through JSON unchanged; ``validate`` (in ``checks``) says what is impossible.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Mode = Literal["training", "inference"]
PRECISIONS: Final = ("fp32", "fp16", "bf16", "amp-bf16", "amp-fp16", "fp8", "int8", "int4", "nf4")
"""``amp-*``: fp32 weights under autocast. ``fp16``, ``bf16``: the weights themselves. ``fp8``,
``int8``, ``int4``, ``nf4``: linear layers stored so, the rest in the compute dtype."""
QUANTIZED: Final = ("fp8", "int8", "int4", "nf4")
COMPUTE_DTYPES: Final = ("fp32", "fp16", "bf16")
OPTIMIZERS: Final = (
    "adamw",
    "adam",
    "sgd",
    "sgd-momentum",
    "adagrad",
    "rmsprop",
    "adafactor",
    "lion",
    "muon",
    "adamw-8bit",
    "adam-8bit",
    "lion-8bit",
    "paged-adamw-8bit",
)
OptimizerImplementation = Literal["foreach", "fused", "forloop"]
ATTENTIONS: Final = ("sdpa", "flash", "eager")
CHECKPOINTINGS: Final = ("none", "full", "selective")
STACKS: Final = (
    "plain",
    "hf-trainer",
    "fsdp-qlora",
    "litgpt",
    "lit-gpt",
    "torchtune",
    "torchtitan",
    "megatron",
)
"""Whose training loop runs the model. ``plain``: the loop of the tutorials, which keeps
``outputs`` until the next forward. ``hf-trainer``: transformers.Trainer, which drops them before
backward. The others differ in the ways that ``stacks`` declares, each with its source."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model by its Hugging Face configuration, or by a function of the user's that builds it."""

    name: str
    config: Mapping[str, Any] | None = None
    """Arguments of the transformers config class, ``model_type`` among them."""
    auto_class: str = "AutoModelForCausalLM"
    entry: str | None = None
    """``package.module:function``, or ``file.py:function``, in place of a configuration."""
    parameters: int | None = None
    """As published, where the catalogue knows it."""


@dataclass(frozen=True, slots=True)
class Lora:
    """LoRA adapters as PEFT adds them."""

    rank: int
    targets: tuple[str, ...] = ()
    """Module names as PEFT's ``target_modules``; empty: PEFT's own choice for the model type;
    ``("all-linear",)``: every linear layer but the head."""
    dropout: float = 0.0
    dtype: str | None = None
    """Of the adapters: fp32, fp16, bf16; None: fp32 with PEFT (its autocast_adapter_dtype), that
    of the weights with other stacks."""
    prepared: bool = True
    """Over nf4 or int8: whether PEFT's prepare_model_for_kbit_training is called, as PEFT's
    documentation does; it makes all that is not quantised fp32."""


_KBIT: Final = ("nf4", "int8")
"""bitsandbytes' precisions, of which PEFT and the Trainer know."""
_PEFT_STACKS: Final = ("plain", "hf-trainer", "fsdp-qlora")


@dataclass(frozen=True, slots=True)
class Parallel:
    """How one training is spread; data parallel degree = gpus / (tp · pp · cp)."""

    gpus: int = 1
    zero: int = 0
    """ZeRO stage, 0 to 3; 3 is FSDP's full shard, 2 its shard-grad-op."""
    shard_gpus: int | None = None
    """GPUs that share one copy, where not all do (FSDP's hybrid shard: those of a node)."""
    tensor: int = 1
    sequence: bool = False
    """Megatron's sequence parallelism: what tensor parallelism leaves whole is divided too."""
    pipeline: int = 1
    virtual_pipeline: int = 1
    """Model chunks a stage; above 1 the schedule is interleaved 1F1B."""
    context: int = 1
    expert: int = 1
    micro_batches: int | None = None
    """Micro-batches in one step of a pipeline; None: as many as there are stages."""

    @property
    def data(self) -> int:
        """Data parallel degree."""
        return self.gpus // (self.tensor * self.pipeline * self.context)

    @property
    def shards(self) -> int:
        """GPUs over which ZeRO or FSDP divides one copy; context parallel ranks take part."""
        whole = self.data * self.context
        return min(self.shard_gpus or whole, whole)


Backend = Literal["cuda", "cpu"]


@dataclass(frozen=True, slots=True)
class Loop:
    """What a training loop does beyond its stack, as it was seen to do it in a live process.

    Known to the trace alone; the closed form takes the stack's loop.
    """

    keeps_outputs: bool | None = None
    """Whether the model's outputs live until the next forward; None: as the stack does."""
    zero_grad: Literal["after-step", "before-backward"] = "after-step"
    """Before the next forward comes to the same as after the step."""
    loss: Literal["model", "outside"] = "model"
    """``outside``: the model is given no labels; cross entropy of all positions is taken."""
    training_mode: bool = True
    """Of the module; without it (``model.eval()``) nothing is dropped out or checkpointed."""


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU by what the estimate needs of it."""

    name: str
    total_bytes: int
    """As NVML's ``memory.total``."""
    compute_capability: tuple[int, int] = (8, 0)


@dataclass(frozen=True, slots=True)
class AllocatorConfig:
    """The settings of ``PYTORCH_CUDA_ALLOC_CONF`` that change how memory is laid out."""

    expandable_segments: bool = False
    max_split_bytes: int | None = None
    roundup_power2_divisions: int = 0
    """0: off."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Everything that an estimate depends on.

    Batch and sequence are those of one micro-batch on one data-parallel rank; bytes and verdicts
    are those of one GPU, the fullest.
    """

    model: Model
    mode: Mode = "training"
    batch: int = 1
    sequence: int = 512
    """Tokens of a sample; in inference those of the prompt."""
    precision: str = "bf16"
    compute_dtype: str | None = None
    """Of quantised linears; None: bf16."""
    double_quantization: bool = False
    """Of nf4: the scales quantised too (bnb_4bit_use_double_quant)."""
    optimizer: str = "adamw"
    optimizer_implementation: OptimizerImplementation | None = None
    """None: what the stack takes by default (torch on CUDA: foreach)."""
    attention: str = "sdpa"
    checkpointing: str = "none"
    lora: Lora | None = None
    grad_accumulation: int = 1
    chunked_loss: bool = False
    """Logits and cross entropy in pieces, never all at once."""
    new_tokens: int = 0
    """Inference: tokens generated after the prompt; 0 is one forward without a cache."""
    kv_dtype: str | None = None
    """fp16, bf16, fp32, fp8, int8 of the KV cache; None: that of the activations."""
    stack: str = "plain"
    parallel: Parallel = Parallel()
    device: Device | None = None
    allocator: AllocatorConfig = AllocatorConfig()
    backend: Backend = "cuda"
    """Whose kernels run. ``cpu``: no allocator, no context; bytes are those of the storages."""
    loop: Loop = Loop()

    @property
    def training(self) -> bool:
        """Whether gradients and an optimizer are there."""
        return self.mode == "training"

    @property
    def casts_weights(self) -> bool:
        """Whether weights are fp32 for an arithmetic in 16 bits."""
        return self.precision.startswith("amp-")

    @property
    def autocast_dtype(self) -> str | None:
        """The dtype of autocast, None without it; recipes of QLoRA tell the Trainer to use it."""
        if self.casts_weights:
            return self.precision.removeprefix("amp-")
        of_trainer = self.stack == "hf-trainer" and self.training
        return self.activation_dtype if of_trainer and self.precision in _KBIT else None

    @property
    def activation_dtype(self) -> str:
        """The dtype in which hidden states mostly are: fp32, fp16 or bf16."""
        if self.precision in QUANTIZED:
            return self.compute_dtype or "bf16"
        return self.precision.removeprefix("amp-")

    @property
    def weight_dtype(self) -> str:
        """The dtype of what is not quantised: fp32, fp16 or bf16."""
        return "fp32" if self.casts_weights else self.activation_dtype

    @property
    def adapter_dtype(self) -> str:
        """The dtype of LoRA's adapters."""
        if self.lora is not None and self.lora.dtype is not None:
            return self.lora.dtype
        return "fp32" if self.stack in _PEFT_STACKS else self.weight_dtype

    @property
    def prepared_for_kbit(self) -> bool:
        """Whether what is not quantised is made fp32 for training (``Lora.prepared``)."""
        if self.lora is None or not self.training or self.stack not in _PEFT_STACKS:
            return False
        return self.precision in _KBIT and self.lora.prepared

    @property
    def implementation(self) -> OptimizerImplementation:
        """How the optimizer steps.

        torch.optim takes foreach on CUDA where it can, but for Adafactor (optim/_adafactor.py:
        only where it is asked for); transformers' Trainer asks for the fused AdamW
        (TrainingArguments.optim, adamw_torch_fused). On the CPU it takes neither by itself
        (optim/optimizer.py, _default_to_fused_or_foreach).
        """
        if self.optimizer_implementation is not None:
            return self.optimizer_implementation
        if self.backend == "cpu":
            return "forloop"
        if self.stack == "hf-trainer" and self.optimizer == "adamw":
            return "fused"
        if self.optimizer == "adafactor" and self.stack != "hf-trainer":
            return "forloop"
        return "foreach"

    def with_batch(self, batch: int) -> Workload:
        """The same with another micro-batch."""
        return dataclasses.replace(self, batch=batch)


def to_json(workload: Workload) -> dict[str, Any]:
    """A workload as plain JSON values; ``from_json`` is the way back."""
    return dataclasses.asdict(workload)


def from_json(value: Mapping[str, Any]) -> Workload:
    """The workload of which ``to_json`` made the value."""
    plain = dict(value)
    lora, device = plain.pop("lora"), plain.pop("device")
    return Workload(
        model=Model(**plain.pop("model")),
        lora=Lora(**{**lora, "targets": tuple(lora["targets"])}) if lora else None,
        parallel=Parallel(**plain.pop("parallel")),
        device=Device(**{**device, "compute_capability": tuple(device["compute_capability"])})
        if device
        else None,
        allocator=AllocatorConfig(**plain.pop("allocator")),
        loop=Loop(**plain.pop("loop")),
        **plain,
    )
