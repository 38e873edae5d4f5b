"""What the components are made of: the parts of the model on one GPU, their weights and tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from . import network
from .shape import Shape
from .tape import BYTES, Tape, Weight
from .workload import QUANTIZED, Workload

Stage = Literal["only", "first", "last"]
GROUP_WIDTH: Final = {
    # bitsandbytes: 4 bits packed and an fp32 absmax per 64 values.
    "nf4": 0.5 + 4 / 64,
    # LLM.int8 and per-row fp8: the scale of a row is left out (a thousandth).
    "int8": 1.0,
    "fp8": 1.0,
    # GPTQ's packing, groups of 128: an fp16 scale and a 4-bit zero a group.
    "int4": 0.5 + 2.5 / 128,
}
NF4_NESTED_WIDTH: Final = 0.5 + 1 / 64 + 4 / (64 * 256)
"""With the absmax in 8 bits, and an fp32 absmax per 256 of those (bnb_4bit_use_double_quant)."""


@dataclass(frozen=True, slots=True)
class Affine:
    """Bytes as ``base + slope · batch``."""

    base: float = 0.0
    slope: float = 0.0

    def __add__(self, other: Affine) -> Affine:
        return Affine(self.base + other.base, self.slope + other.slope)

    def __mul__(self, factor: float) -> Affine:
        return Affine(self.base * factor, self.slope * factor)

    def at(self, batch: int) -> int:
        """Whole bytes at a batch size."""
        return round(self.base + self.slope * batch)


ZERO: Final = Affine()


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the model that repeats ``count`` times on this GPU."""

    name: str
    count: float
    weights: tuple[Weight, ...]
    saved: float
    """Bytes a token that autograd keeps."""
    on_nodes: float
    """Bytes a token, of those, that are kept as long as the graph is."""
    cast_elements: float
    """Elements of weights of which autocast keeps a copy."""
    widest: float
    """Bytes a token: input and output of its largest operation."""

    def stored_bytes(self, sizes: Sizes) -> float:
        """Of its weights and adapters, once."""
        return sum(sizes.weight_bytes(w) + sizes.adapter_bytes(w) for w in self.weights)

    def trained_elements(self, sizes: Sizes) -> float:
        """Elements that have gradients, once."""
        return sum(sizes.trained_elements(w) for w in self.weights)


@dataclass(frozen=True, slots=True)
class Sizes:
    """One GPU's share of a workload before ZeRO divides it."""

    workload: Workload
    shape: Shape
    stage: Stage
    embedding: Part
    layers: tuple[Part, ...]
    head: Part
    tokens: float
    """Of one sample on this GPU."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """Everything that this GPU has."""
        return (self.embedding, *self.layers, self.head)

    @property
    def sharded(self) -> bool:
        """Whether FSDP divides parameters and gradients (ZeRO-2 and 3)."""
        parallel = self.workload.parallel
        return parallel.zero >= 2 and parallel.shards > 1

    @property
    def width(self) -> int:
        """Bytes of an element of what is not quantised."""
        return 4 if self.workload.prepared_for_kbit else BYTES[self.workload.weight_dtype]

    @property
    def trained_width(self) -> int:
        """Bytes of a trained parameter's element; PEFT makes adapters fp32."""
        if self.workload.lora is None:
            return self.width
        return BYTES[self.workload.adapter_dtype]

    @property
    def activation_width(self) -> int:
        """Bytes of an element of the logits and of a linear layer's output."""
        w = self.workload
        return BYTES[w.autocast_dtype] if w.autocast_dtype else self.width

    def weight_bytes(self, weight: Weight) -> float:
        """As stored."""
        w = self.workload
        stored = w.precision in QUANTIZED and (w.lora is not None or not w.training)
        if not stored or weight.kind not in ("linear", "expert"):
            return weight.elements * self.width
        if w.precision == "nf4" and w.double_quantization:
            return weight.elements * NF4_NESTED_WIDTH
        return weight.elements * GROUP_WIDTH[w.precision]

    def adapter_bytes(self, weight: Weight) -> float:
        """Of the LoRA adapter beside it."""
        return self._adapter_elements(weight) * self.trained_width

    def _adapter_elements(self, weight: Weight) -> float:
        if not weight.lora or self.workload.lora is None:
            return 0.0
        return self.workload.lora.rank * (weight.undivided_rows + weight.undivided_columns)

    def trained_elements(self, weight: Weight) -> float:
        """Elements that have a gradient because of this weight."""
        if not self.workload.training:
            return 0.0
        if self.workload.lora is not None:
            return self._adapter_elements(weight)
        return weight.elements

    def trained_total(self) -> float:
        """All elements that have gradients."""
        return sum(part.count * part.trained_elements(self) for part in self.parts)

    def table_trained(self) -> float:
        """Trained elements of the table of token embeddings."""
        if not self.workload.training or self.workload.lora is not None or self.shape.image:
            return 0.0
        tokens = (w for w in self.embedding.weights if w.name == "embed_tokens")
        return self.embedding.count * sum(table.elements for table in tokens)

    def head_trained(self) -> float:
        """Elements whose gradient backward makes at the head; of a tied one the table's."""
        own = self.head.count * self.head.trained_elements(self)
        return own + self.table_trained() if self.shape.tied and self.head.count else own

    def ends_trained(self) -> float:
        """Trained elements of embedding and head."""
        return sum(part.count * part.trained_elements(self) for part in (self.embedding, self.head))

    def cast_bytes(self, *, head: bool = True) -> float:
        """Copies of weights that autocast makes in a forward, bytes; FSDP gathers in its dtype."""
        w = self.workload
        if not w.autocast_dtype or self.sharded:
            return 0.0
        parts = self.parts if head else (self.embedding, *self.layers)
        return BYTES[w.autocast_dtype] * sum(p.count * p.cast_elements for p in parts)

    def in_flight(self) -> float:
        """Micro-batches whose activations are held at once, in batches of this stage's layers.

        1F1B: as many as stages follow, at most the micro-batches there are; interleaved
        times 1 + (p - 1) / (p · v) (Narayanan et al. 2021, Korthikanti et al. 2022).
        """
        p = self.workload.parallel
        if self.stage != "first":
            return 1.0
        held = min(p.micro_batches or p.pipeline, p.pipeline)
        if p.virtual_pipeline > 1:
            return held * (1 + (p.pipeline - 1) / (p.pipeline * p.virtual_pipeline))
        return float(held)

    def alternates(self) -> bool:
        """Whether this stage of a pipeline has backwards before its last forwards (1F1B)."""
        p = self.workload.parallel
        return p.pipeline > 1 and (p.micro_batches or p.pipeline) > self.in_flight()


def sizes_of(workload: Workload, shape: Shape, stage: Stage) -> Sizes:
    """The parts of one stage; ``only`` is the whole model."""
    targets: tuple[str, ...] = ()
    if workload.lora is not None:
        targets = workload.lora.targets or shape.names.default_targets
    tokens = shape.image.tokens if shape.image else workload.sequence
    share = 1 / workload.parallel.pipeline
    layers = []
    for kind, count in network.layer_kinds(shape):
        tape = Tape(workload, targets)
        network.layer(tape, shape, tape.stream(shape.hidden), kind)
        layers.append(_part(kind, count * share, tape))
    first, last = Tape(workload, targets), Tape(workload, targets)
    x = network.embedding(first, shape)
    network.head(last, shape, last.stream(x.size / first.outer))
    if stage == "last" and shape.tied:
        # The last stage has its own copy of a tied embedding (Megatron-LM).
        width = shape.embedding_width or shape.hidden
        last.parameter("lm_head", round(shape.vocabulary * width / first.tensor), "head")
    return Sizes(
        workload,
        shape,
        stage,
        _part("embedding", 0.0 if stage == "last" else 1.0, first),
        tuple(layers),
        _part("head", 0.0 if stage == "first" else 1.0, last),
        tokens / workload.parallel.context,
    )


def _part(name: str, count: float, tape: Tape) -> Part:
    return Part(
        name,
        count,
        tuple(tape.weights),
        tape.saved_bytes(),
        tape.on_nodes_bytes(),
        tape.cast_elements,
        tape.widest,
    )
