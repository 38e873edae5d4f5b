"""What to change to need less: each change with what it really saves, and its price in words.

What a change saves is the difference of two footprints, so that effects that hide each other (a
peak that moves elsewhere) are counted as they are. The closed form's are differences of what is
allocated: against new traces of each change they were within 3 % for gpt2 on a T4, Llama-2-7B and
QLoRA of Qwen2.5-7B, but for a chunked loss (to -11 %: the last layer's backward, then the peak, is
taken too large). What the allocator caches changes too, which only a replay could tell.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ..errors import UsageError
from .checks import FUSED, validate
from .result import Advice, Predictor
from .workload import Lora, Workload

PredictorOf = Callable[[Workload], Predictor]
_WORTH_SAYING: Final = 0.01
"""Share of the process's total below which a change is not worth a line."""
_EIGHT_BIT: Final[Mapping[str, str]] = {
    "adamw": "adamw-8bit",
    "adam": "adam-8bit",
    "lion": "lion-8bit",
}
_LORA_RANK: Final = 16


@dataclass(frozen=True, slots=True)
class Change:
    """A workload that does the same work in less memory."""

    words: str
    options: Mapping[str, str]
    cost: str
    workload: Workload
    sort: int = 0
    """0: costs nothing; 1: time; 2: rounding; 3: what is learnt; 4: what is trained on."""


def advise(
    workload: Workload,
    predictor_of: PredictorOf,
    *,
    expandable_saves_bytes: int | None = None,
    most_batch: int | None = None,
) -> tuple[Advice, ...]:
    """Changes that apply and save 1 % or more, ordered by what they cost, then what they save.

    ``predictor_of`` is asked for the workload and for each change; ``expandable_saves_bytes`` is
    what the allocator's replay says of expandable segments, None where nothing was replayed;
    ``most_batch`` the largest batch that surely fits, where that is less than the workload's.

    Raises:
        UsageError: the predictor cannot answer for the workload itself.
    """
    now = predictor_of(workload).at(workload.batch).process_bytes
    least = _least(now)
    found: list[tuple[tuple[int, int], Advice]] = []
    for change in changes(workload, most_batch):
        with contextlib.suppress(UsageError):  # not possible for this model or device
            validate(change.workload)
            changed = predictor_of(change.workload).at(change.workload.batch)
            saves = now - changed.process_bytes
            if saves >= least:
                advice = Advice(change.words, dict(change.options), saves, change.cost)
                found.append(((change.sort, -saves), advice))
    found += [((0, -one.saves_bytes), one) for one in expandable(expandable_saves_bytes, now)]
    return tuple(advice for _, advice in sorted(found, key=lambda pair: pair[0]))


def changes(workload: Workload, most_batch: int | None = None) -> Iterator[Change]:
    """Everything that could be changed; what a model or device excludes is for ``validate``."""
    yield from _attention(workload)
    if workload.training:
        yield from _step(workload)
        yield from _activations(workload)
        yield from _samples(workload, most_batch)
        yield from _weights(workload)
        yield from _spread(workload)
    else:
        yield from _inference(workload, most_batch)


def _attention(workload: Workload) -> Iterator[Change]:
    if workload.attention == "eager":
        yield Change(
            "SDPA instead of eager attention",
            {"--attention": "sdpa"},
            "costs nothing; attention weights are no longer returned",
            dataclasses.replace(workload, attention="sdpa"),
        )


def _step(workload: Workload) -> Iterator[Change]:
    name = workload.optimizer
    if name in FUSED and workload.implementation != "fused":
        yield Change(
            f"the fused {name}",
            {"--fused": ""},
            "costs nothing: the same step in one kernel, and faster",
            dataclasses.replace(workload, optimizer_implementation="fused"),
        )
    if eight := _EIGHT_BIT.get(name):
        yield Change(
            "an 8-bit optimizer",
            {"--optimizer": eight},
            "states rounded to 8 bits in blocks; needs bitsandbytes",
            dataclasses.replace(workload, optimizer=eight, optimizer_implementation=None),
            sort=2,
        )


def _activations(workload: Workload) -> Iterator[Change]:
    if not workload.chunked_loss:
        yield Change(
            "a chunked or fused cross entropy",
            {"--chunked-loss": ""},
            "costs nothing to speak of; needs Liger kernels, cut cross entropy or an own loss",
            dataclasses.replace(workload, chunked_loss=True),
        )
    keeps_outputs = workload.stack == "plain" and workload.loop.keeps_outputs is not False
    if keeps_outputs and not workload.prepared_for_kbit:
        # Of QLoRA the Trainer changes more: recipes have it run under autocast.
        yield Change(
            "dropping the outputs before backward (del outputs, keep the loss)",
            {"--stack": "hf-trainer"},
            "costs nothing",
            dataclasses.replace(
                workload,
                stack="hf-trainer",
                optimizer_implementation=workload.implementation,
            ),
        )
    if workload.checkpointing == "none":
        yield Change(
            "full checkpointing",
            {"--checkpointing": "full"},
            "a step takes about a third longer: every layer's forward runs twice",
            dataclasses.replace(workload, checkpointing="full"),
            sort=1,
        )
        yield Change(
            "selective checkpointing",
            {"--checkpointing": "selective"},
            "a step takes a few percent longer: attention runs twice",
            dataclasses.replace(workload, checkpointing="selective"),
            sort=1,
        )


def _samples(workload: Workload, most_batch: int | None) -> Iterator[Change]:
    if workload.batch > 1 and workload.parallel.pipeline == 1:
        part = _part(workload.batch, most_batch)
        passes = workload.grad_accumulation * (workload.batch // part)
        yield Change(
            f"micro-batches of {part}, {passes} accumulated",
            {"--batch": str(part), "--grad-accumulation": str(passes)},
            "the same effective batch; kernels are less busy",
            dataclasses.replace(workload, batch=part, grad_accumulation=passes),
            sort=1,
        )
    if workload.sequence > 1:
        half = workload.sequence // 2
        yield Change(
            f"sequences of {half:,} tokens",
            {"--seq": str(half)},
            "longer samples are cut",
            dataclasses.replace(workload, sequence=half),
            sort=4,
        )


def _part(batch: int, most: int | None) -> int:
    """The largest proper divisor of a batch, of those that fit if any does."""
    parts = [part for part in range(1, batch // 2 + 1) if batch % part == 0]
    return max((part for part in parts if most is None or part <= most), default=parts[-1])


def _weights(workload: Workload) -> Iterator[Change]:
    if workload.precision == "fp32":
        yield Change(
            "bf16 autocast",
            {"--precision": "amp-bf16"},
            "matrix products round to bf16; weights stay fp32",
            dataclasses.replace(workload, precision="amp-bf16"),
            sort=2,
        )
    if workload.precision in ("fp32", "amp-bf16", "amp-fp16"):
        yield Change(
            "weights, gradients and states in bf16",
            {"--precision": "bf16"},
            "updates below 1/256 of a weight are lost",
            dataclasses.replace(workload, precision="bf16"),
            sort=2,
        )
    if workload.lora is None:
        adapters = Lora(_LORA_RANK)
        half = "bf16" if workload.precision not in ("fp16", "bf16") else workload.precision
        yield Change(
            f"LoRA of rank {_LORA_RANK}",
            {"--lora": str(_LORA_RANK), "--precision": half},
            "only adapters are trained",
            dataclasses.replace(workload, lora=adapters, precision=half),
            sort=3,
        )
        yield Change(
            f"QLoRA: rank {_LORA_RANK} on a 4-bit base",
            {"--lora": str(_LORA_RANK), "--precision": "nf4"},
            "only adapters are trained, the base is rounded to 4 bits, steps are slower",
            dataclasses.replace(workload, lora=adapters, precision="nf4"),
            sort=3,
        )
    elif workload.precision in ("fp32", "fp16", "bf16"):
        yield Change(
            "a 4-bit base (QLoRA)",
            {"--precision": "nf4"},
            "the frozen weights are rounded to 4 bits, steps are slower",
            dataclasses.replace(workload, precision="nf4"),
            sort=3,
        )
    if workload.precision == "nf4" and not workload.double_quantization:
        yield Change(
            "double quantisation",
            {"--double-quant": ""},
            "costs nothing to speak of",
            dataclasses.replace(workload, double_quantization=True),
        )


def _spread(workload: Workload) -> Iterator[Change]:
    parallel = workload.parallel
    if parallel.tensor > 1 and not parallel.sequence:
        yield Change(
            "sequence parallelism beside tensor parallelism",
            {"--sp": ""},
            "costs nothing to speak of: the same bytes are sent",
            dataclasses.replace(workload, parallel=dataclasses.replace(parallel, sequence=True)),
        )
    if parallel.data * parallel.context < 2:
        return
    for stage, words, cost in (
        (1, "optimizer states divided over the GPUs (ZeRO-1)", "as much is sent as without"),
        (2, "gradients divided too (ZeRO-2)", "a reduction after every backward"),
        (3, "weights divided too (ZeRO-3, FSDP)", "half as much again is sent"),
    ):
        if stage > parallel.zero and (parallel.pipeline == 1 or stage == 1):
            yield Change(
                words,
                {"--zero": str(stage)},
                cost,
                dataclasses.replace(workload, parallel=dataclasses.replace(parallel, zero=stage)),
                sort=1,
            )


def _inference(workload: Workload, most_batch: int | None) -> Iterator[Change]:
    if workload.precision in ("fp32", "amp-bf16", "amp-fp16"):
        yield Change(
            "weights in bf16",
            {"--precision": "bf16"},
            "activations round to bf16",
            dataclasses.replace(workload, precision="bf16"),
            sort=2,
        )
    if workload.precision in ("fp32", "fp16", "bf16"):
        for precision, cost in (
            ("int8", "weights rounded to 8 bits; slower"),
            ("nf4", "weights rounded to 4 bits; slower"),
        ):
            yield Change(
                f"weights in {precision}",
                {"--precision": precision},
                cost,
                dataclasses.replace(workload, precision=precision),
                sort=2,
            )
    if workload.new_tokens and workload.kv_dtype not in ("fp8", "int8"):
        yield Change(
            "the KV cache in fp8",
            {"--kv-dtype": "fp8"},
            "keys and values rounded to 8 bits",
            dataclasses.replace(workload, kv_dtype="fp8"),
            sort=2,
        )
    if workload.batch > 1:
        fewer = min(workload.batch - 1, most_batch or workload.batch // 2)
        yield Change(
            f"{fewer} sequence{'s' if fewer > 1 else ''} at a time",
            {"--batch": str(fewer)},
            "less throughput",
            dataclasses.replace(workload, batch=fewer),
            sort=3,
        )


def expandable(saves_bytes: int | None, process_bytes: int) -> tuple[Advice, ...]:
    """Advice on expandable segments, where their replay was worth it."""
    if saves_bytes is None or saves_bytes < _least(process_bytes):
        return ()
    return (
        Advice(
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
            {"--alloc-conf": "expandable_segments:True"},
            saves_bytes,
            "of what is reserved, and costs nothing; not on Windows",
        ),
    )


def _least(process_bytes: int) -> float:
    return max(_WORTH_SAYING * process_bytes, 1)
