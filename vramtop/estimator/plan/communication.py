"""Bytes that one GPU sends for one optimizer step, by what it sends them for.

Collectives are counted as bandwidth-optimal rings do them (Patarasuk & Yuan 2009; nccl-tests,
doc/PERFORMANCE.md): an all-gather or a reduce-scatter of S bytes over n GPUs sends (n−1)/n · S
from each, an all-reduce is both. Trees and NVLink SHARP send less; latency is not in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

ZERO_PAPER = "Rajbhandari et al. 2020, ZeRO, section 7"
MEGATRON_TP = "Shoeybi et al. 2019, Megatron-LM, section 3"
MEGATRON_SP = "Korthikanti et al. 2022, section 4.2"
MEGATRON_PP = "Narayanan et al. 2021, section 2.2"
DDP = "torch DistributedDataParallel, no_sync while gradients accumulate"


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a GPU sends for one purpose in one optimizer step."""

    purpose: str
    sent_bytes: int
    source: str


@dataclass(frozen=True, slots=True)
class Part:
    """What communication depends on, of the part of a model on one GPU, before ZeRO divides it."""

    weight_bytes: int
    """All its weights in the dtype in which ZeRO-3 gathers them."""
    trained_weight_bytes: int
    """Those that are trained, in the dtype that is gathered after a ZeRO-1 or ZeRO-2 step."""
    gradient_bytes: int
    """Whole gradients in the dtype in which they are reduced."""
    hidden_bytes: int
    """Hidden states of one micro-batch: batch · sequence · hidden · bytes of the dtype."""
    layers: int
    """Transformer layers on this GPU."""
    tied_embedding_bytes: int = 0
    """Gradient of an embedding that is the head too; a pipeline has both, on two stages."""


def gather_bytes(size_bytes: float, gpus: int) -> float:
    """Sent by each GPU in an all-gather whose result is ``size_bytes``; so a reduce-scatter."""
    return (gpus - 1) / gpus * size_bytes


def all_reduce_bytes(size_bytes: float, gpus: int) -> float:
    """Sent by each GPU in an all-reduce of ``size_bytes``: 2 · (n−1)/n · size."""
    return 2 * gather_bytes(size_bytes, gpus)


def data_parallel(part: Part, *, gpus: int, zero: int, passes: int) -> tuple[Traffic, ...]:
    """Of the data-parallel group of ``gpus``, in a step of ``passes`` micro-batches.

    DDP and ZeRO-1 reduce once a step; ZeRO-2 and 3 keep only their piece of the gradients and so
    must reduce after every backward (DeepSpeed issue 2252), ZeRO-3 gathers the weights before
    every forward and again before every backward.
    """
    if gpus == 1:
        return ()
    gradients = gather_bytes(part.gradient_bytes, gpus)
    if zero == 0:
        return (_traffic("gradient all-reduce", 2 * gradients, DDP),)
    reduced = _traffic(
        "gradient reduce-scatter", gradients * (passes if zero >= 2 else 1), ZERO_PAPER
    )
    if zero == 3:
        gathered = 2 * passes * gather_bytes(part.weight_bytes, gpus)
        return (_traffic("weight all-gather", gathered, ZERO_PAPER), reduced)
    updated = gather_bytes(part.trained_weight_bytes, gpus)
    return (reduced, _traffic("weight all-gather", updated, ZERO_PAPER))


def tensor_parallel(
    part: Part, *, gpus: int, passes: int, sequence_parallel: bool, recomputed: bool
) -> tuple[Traffic, ...]:
    """Of the tensor-parallel group, in a step of ``passes`` micro-batches.

    Two all-reduces of the hidden states a layer in forward and two in backward, two more where
    the forward is made again; one of the embedding and one of the head. Sequence parallelism puts
    an all-gather and a reduce-scatter in the place of each, the same bytes, and gathers twice
    more a layer in backward what it kept divided.
    """
    if gpus == 1:
        return ()
    once = gather_bytes(part.hidden_bytes, gpus) * passes
    reductions = (6 if recomputed else 4) * part.layers + 2
    sent = 2 * reductions * once
    if not sequence_parallel:
        return (_traffic("tensor-parallel all-reduce", sent, MEGATRON_TP),)
    sent += 2 * part.layers * once
    return (_traffic("tensor-parallel gather and scatter", sent, MEGATRON_SP),)


def pipeline_parallel(
    part: Part, *, stages: int, chunks: int, passes: int, divided_by: int
) -> tuple[Traffic, ...]:
    """Of a middle stage, in a step of ``passes`` micro-batches: activations on, gradients back.

    Interleaving (``chunks`` above 1) does so for every chunk; under sequence parallelism the
    hidden states go on divided by ``divided_by``. The first and the last stage all-reduce the
    gradient of an embedding that both have.
    """
    if stages == 1:
        return ()
    ways = 1 if stages == 2 and chunks == 1 else 2  # of two stages each sends one way only
    sent = ways * chunks * passes * part.hidden_bytes / divided_by
    traffic = _traffic("pipeline point to point", sent, MEGATRON_PP)
    if not part.tied_embedding_bytes:
        return (traffic,)
    tied = all_reduce_bytes(part.tied_embedding_bytes, 2)
    return (traffic, _traffic("tied embedding all-reduce", tied, MEGATRON_PP))


def bubble(*, stages: int, chunks: int, passes: int) -> float:
    """Idle time of a pipeline over its busy time: (p−1) / (v·m) (Narayanan et al. 2021, 2.2)."""
    return (stages - 1) / (chunks * passes)


def total_bytes(traffic: tuple[Traffic, ...]) -> int:
    """Everything that the GPU sends."""
    return sum(item.sent_bytes for item in traffic)


def _traffic(purpose: str, sent_bytes: float, source: str) -> Traffic:
    return Traffic(purpose, round(sent_bytes), source)
