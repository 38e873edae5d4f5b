"""What autograd keeps of a forward, operation by operation, in bytes a token.

A ``Tape`` is told the operations of a model in the order of its modeling file. Each operation
knows which of its tensors torch saves for backward (derivatives.yaml of PyTorch; autocast's lists
in aten/src/ATen/autocast_mode.h); a tensor that two operations save is counted once. Linear
layers register their weights too, so that one description gives parameters and activations.

    operation               saves
    linear                  its input, unless the weight is frozen or quantised; under autocast the
                            cast copy, one for each linear; LLM.int8's input though frozen
    RMS norm (Llama)        input in fp32, the normed value in the model's dtype, rsqrt
    RMS norm (T5)           as Llama's, and the input
    RMS norm (Gemma)        input in fp32, the normed value in fp32, rsqrt
    layer norm              its input (fp32 under autocast), mean and rstd
    SiLU, GELU              their input
    ReLU                    its output
    GELU in Python (GPT-2)  input, half of it, tanh, 1 + tanh (the power in fp32 under autocast)
    product                 both factors
    rope, sum, embedding    nothing that grows with the batch
    dropout                 a mask of one byte an element (native_dropout, CUDA)
    SDPA, flash             q, k, v, out, and log-sum-exp in fp32 a head
    eager attention         q, repeated k and v, softmax in fp32, its copy in the model's dtype
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from .workload import QUANTIZED, Workload

_AMPERE = (8, 0)
BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
WeightKind = Literal["linear", "expert", "head", "embedding", "norm", "bias"]


class Value:
    """A tensor: elements a token, bytes an element."""

    __slots__ = ("size", "width")

    def __init__(self, size: float, width: int) -> None:
        self.size, self.width = size, width


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter as one GPU of a tensor-parallel group holds it."""

    name: str
    rows: int
    columns: float
    kind: WeightKind
    lora: bool = False
    """Whether an adapter is beside it."""
    undivided_rows: int = 0
    undivided_columns: int = 0

    @property
    def elements(self) -> float:
        """Of this GPU's part."""
        return self.rows * self.columns


class Tape:
    """One part of a model (a layer, the embedding, the head) as it runs forward."""

    def __init__(self, workload: Workload, targets: Iterable[str] = ()) -> None:
        parallel = workload.parallel
        self.workload = workload
        self.width = _stream_width(workload)
        self.autocast = BYTES[workload.autocast_dtype] if workload.autocast_dtype else 0
        self.quantized = workload.precision in QUANTIZED and (
            workload.lora is not None or not workload.training
        )
        self.compute = BYTES[workload.activation_dtype]
        self.frozen = workload.lora is not None
        self.lora = workload.lora
        self.targets = frozenset(targets)
        self.all_linear = "all-linear" in self.targets
        self.tensor = parallel.tensor
        self.outer = 1 / parallel.tensor if parallel.sequence else 1.0
        self.expert = parallel.expert
        self.attention = workload.attention
        self.sequence = workload.sequence
        self.training = workload.training
        # transformers' causal models fill a cache in training too (use_cache), unless they
        # checkpoint: its copies of keys and values are what attention saves.
        self.caches = workload.checkpointing == "none" and workload.stack in ("plain", "hf-trainer")
        self.saved: dict[Value, None] = {}
        self.on_nodes: dict[Value, None] = {}
        """Attributes of the graph's nodes: what backward has used, and checkpointing let go of,
        stays while there is a graph (bitsandbytes, MatMul8bitLt: ctx.tensors has the input)."""
        self.weights: list[Weight] = []
        self.cast_elements = 0.0
        """Elements of weights that autocast copies."""
        self.widest = 0.0
        """Bytes a token of the largest input and output of one operation together."""

    def saved_bytes(self) -> float:
        """Bytes a token that forward leaves for backward."""
        return sum(value.size * value.width for value in self.saved | self.on_nodes)

    def on_nodes_bytes(self) -> float:
        """Bytes a token that last as long as the graph."""
        return sum(value.size * value.width for value in self.on_nodes)

    def stream(self, size: float) -> Value:
        """A hidden state outside of attention and feed-forward part (divided by SP)."""
        return Value(size * self.outer, self.width)

    def save(self, value: Value) -> Value:
        """Backward needs it."""
        self.saved[value] = None
        return value

    def parameter(self, name: str, elements: int, kind: WeightKind = "norm") -> None:
        """A weight that no linear layer multiplies with, whole on every GPU."""
        self.weights.append(Weight(name, 1, elements, kind))

    def cast(self, value: Value, width: int) -> Value:
        """The value in another dtype: itself where it has it."""
        return value if value.width == width else Value(value.size, width)

    def linear(
        self,
        x: Value,
        name: str,
        rows: int,
        columns: int,
        *,
        bias: bool = False,
        split: Literal["", "rows", "columns"] = "",
        kind: WeightKind = "linear",
        copies: int = 1,
        output_size: float | None = None,
    ) -> Value:
        """``rows`` outputs of ``columns`` inputs; ``split``: which of them TP divides."""
        by = self.tensor if split else 1
        targeted = kind == "linear" and (self.all_linear or name in self.targets)
        of_rows, of_columns = (by, 1) if split == "rows" else (1, by)
        self.weights.append(
            Weight(
                name,
                copies,
                rows / of_rows * (columns / of_columns),
                kind,
                targeted,
                rows,
                columns,
            )
        )
        if bias:
            self.weights.append(Weight(f"{name}.bias", 1, rows / of_rows, "bias"))
        out_size = rows / of_rows if output_size is None else output_size
        stored = self.quantized and kind in ("linear", "expert")
        if self.autocast and not stored:
            if self.width != self.autocast:
                self.cast_elements += rows * columns / by * copies
            out = Value(out_size, self.autocast)
            given = self.cast(x, self.autocast)
        else:
            out = Value(out_size, x.width)
            given = x
        if not self.frozen and not stored:
            self.save(given)
        elif stored and self.workload.precision == "int8":
            self.on_nodes[x] = None
        if targeted and self.lora is not None:
            self._adapter(x, stored=stored)
        self.widest = max(self.widest, x.size * x.width + out.size * out.width)
        return out

    def _adapter(self, x: Value, *, stored: bool) -> None:
        """PEFT's lora.Linear: fp32 adapters (autocast_adapter_dtype), input cast to them.

        Under autocast that of a quantised layer leaves the cast to autocast (tuners/lora/bnb.py,
        requires_conversion), which makes none where there is nothing to cast.
        """
        assert self.lora is not None
        given = x if self.autocast else self.cast(x, 4)
        if self.lora.dropout > 0:
            given = Value(x.size, given.width)
            self.save(Value(x.size, 1))
        if self.autocast and not (stored and x.width == self.autocast):
            given = Value(x.size, self.autocast)
        self.save(given)
        self.save(Value(self.lora.rank, self.autocast or 4))

    def norm(self, x: Value, kind: str, name: str, elements: int, *, bias: bool = True) -> Value:
        """Normalised over the last dimension; ``elements`` weights."""
        self.parameter(f"{name}.weight", elements)
        if kind == "layer":
            if bias:
                self.parameter(f"{name}.bias", elements, "bias")
            given = self.cast(x, 4) if self.autocast else x
            self.save(given)
            self.save(Value(2 * x.size / elements, 4))
            return Value(x.size, given.width)
        given = self.save(self.cast(x, 4))
        self.save(Value(x.size / elements, 4))
        normed = Value(x.size, 4)
        if kind == "gemma":
            if not self.frozen:
                self.save(normed)
            return Value(x.size, x.width)
        if kind == "t5":
            self.save(x)
        rounded = self.cast(normed, x.width)
        if not self.frozen:
            self.save(rounded)
        return Value(x.size, max(rounded.width, self.width))

    def activation(self, x: Value, kind: str) -> Value:
        """The nonlinearity of a feed-forward part."""
        out = Value(x.size, x.width)
        if kind == "relu":
            return self.save(out)
        if kind != "gelu_new":
            self.save(x)
            return out
        wide = 4 if self.autocast else x.width
        self.save(self.cast(x, wide))  # of the power
        self.save(Value(x.size, x.width))  # half of it
        self.save(Value(x.size, wide))  # tanh
        self.save(Value(x.size, wide))  # 1 + tanh
        return Value(x.size, wide)

    def product(self, a: Value, b: Value) -> Value:
        """Elementwise."""
        self.save(a)
        self.save(b)
        return Value(max(a.size, b.size), max(a.width, b.width))

    def total(self, a: Value, b: Value) -> Value:
        """Elementwise sum."""
        return Value(a.size, max(a.width, b.width))

    def dropout(self, x: Value, probability: float) -> Value:
        """With its mask; nothing where there is no dropout."""
        if probability <= 0 or not self.training:
            return x
        self.save(Value(x.size, 1))
        return Value(x.size, x.width)

    def lacks_kernel(self, grouped: bool, q: Value) -> bool:
        """Whether SDPA multiplies by itself; ``lacks_kernel`` for what runs here."""
        return lacks_kernel(self.workload, self.autocast or q.width, grouped=grouped)

    def attend(
        self,
        q: Value,
        k: Value,
        v: Value,
        *,
        heads: float,
        out_size: float,
        repeated: tuple[float, float],
        eager: bool,
        softmax_fp32: bool,
        products_fp32: bool = False,
        unfused: bool = False,
        copied: bool = False,
        softcap: bool = False,
        dropout: float = 0.0,
        keys: int | None = None,
    ) -> Value:
        """Attention; ``repeated``: sizes of k and v with a head for each query head."""
        width = self.autocast or q.width
        if not eager:
            for value in (q, k, v):
                self.save(self.cast(value, width))
            self.save(Value(heads, 4))
            out = self.save(Value(out_size, width))
            return Value(out_size, width) if copied else out
        scores = heads * (keys or self.sequence)
        if unfused:
            # SDPA without a kernel computes 16-bit values in fp32 throughout
            # (ATen/native/transformers/attention.cpp, _scaled_dot_product_attention_math).
            for size in (repeated[0], repeated[0], scores, repeated[1]):
                self.save(Value(size, 4))
            if dropout > 0 and self.training:
                self.save(Value(scores, 1))
                self.save(Value(scores, 4))
            alive = scores * 8
            if not self.training:
                # Nothing is saved, so all is here: a mask of infinite scores, q twice, k and v.
                alive += scores + 4 * (3 * repeated[0] + repeated[1])
            self.widest = max(self.widest, alive)
            return Value(out_size, width)
        product_width = width if self.autocast or not products_fp32 else 4
        self.save(Value(repeated[0], product_width))
        key = self.cast(k, product_width)
        self.save(key if key.size == repeated[0] else Value(repeated[0], product_width))
        if softcap:
            self.save(Value(scores, width))
        wide = softmax_fp32 or products_fp32 or bool(self.autocast)
        probabilities = self.save(Value(scores, 4 if wide else width))
        weights = self.cast(probabilities, width)
        if dropout > 0 and self.training:
            self.save(Value(scores, 1))
            weights = Value(scores, width)
        self.save(weights)
        self.save(v if v.width == width and v.size == repeated[1] else Value(repeated[1], width))
        self.widest = max(self.widest, scores * (4 + width))
        return Value(out_size, width)


def lacks_kernel(workload: Workload, width: int, *, grouped: bool) -> bool:
    """Whether no fused kernel of SDPA takes values of ``width`` bytes an element.

    ``grouped``: fewer heads of keys than of queries. Flash attention takes no fp32 and needs
    compute capability 8.0; the memory-efficient kernel takes no ``enable_gqa``, and bf16 from 8.0
    on (ATen/native/transformers/cuda/sdp_utils.cpp). On the CPU flash attention takes all of them
    (transformers/sdp_utils_cpp.cpp), but none with dropout.
    """
    if workload.backend == "cpu":
        return False
    device = workload.device
    old = device is not None and device.compute_capability < _AMPERE
    if workload.attention != "sdpa" or (width == 2 and not old):
        return False
    return grouped or (width == 2 and workload.activation_dtype == "bf16")


def _stream_width(workload: Workload) -> int:
    """Bytes of a hidden state's element.

    PEFT's prepare_model_for_kbit_training makes embeddings and norms of nf4 and int8 models
    fp32, so the hidden states too.
    """
    if workload.prepared_for_kbit:
        return 4
    return BYTES[workload.weight_dtype]
