"""What the costs of a plan need to know of the model: its numbers, and its part on one GPU."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from ..outline import outline
from ..result import Predictor
from ..workload import Workload
from .communication import Part
from .effort import Effort
from .values import PredictorOf

_BYTES: Final = {"fp32": 4, "fp16": 2, "bf16": 2}


@dataclass(slots=True)
class Numbers:
    """The model's sizes; bytes are read off the predictor, so that they are those of the memory."""

    hidden: int
    layers: int
    effort: Effort
    predictor_of: PredictorOf
    tied_weights: int = 0
    """Weights of an embedding that is the head too."""
    _sizes: dict[tuple[object, ...], tuple[int, int]] = field(default_factory=dict)

    def part(self, workload: Workload) -> Part:
        """The part of the model on one GPU, before ZeRO divides it."""
        parallel = workload.parallel
        weights, gradients = self._weights_and_gradients(workload)
        width = _BYTES[workload.activation_dtype]
        tokens = workload.batch * workload.sequence / parallel.context
        gathered = weights
        if workload.casts_weights:
            # FSDP and DeepSpeed gather the copies in the precision of the arithmetic.
            gathered = weights * width // _BYTES[workload.weight_dtype]
        return Part(
            weight_bytes=gathered,
            trained_weight_bytes=gradients,
            gradient_bytes=gradients,
            hidden_bytes=round(tokens * self.hidden * width),
            layers=-(-self.layers // parallel.pipeline),
            tied_embedding_bytes=self.tied_weights
            * _BYTES[workload.weight_dtype]
            // parallel.tensor,
        )

    def _weights_and_gradients(self, workload: Workload) -> tuple[int, int]:
        """Of one GPU without any division over data-parallel GPUs, bytes.

        Gradients have their parameters' dtype, so they are as large as the trained weights.
        """
        parallel = workload.parallel
        key = (
            workload.precision,
            workload.optimizer,
            workload.lora,
            parallel.tensor,
            parallel.pipeline,
            parallel.expert,
        )
        if key not in self._sizes:
            alone = replace(
                workload,
                batch=1,
                checkpointing="none",
                grad_accumulation=1,
                parallel=replace(
                    parallel,
                    gpus=parallel.tensor * parallel.pipeline * parallel.expert,
                    zero=0,
                    context=1,
                    shard_gpus=None,
                ),
            )
            self._sizes[key] = _read(self.predictor_of(alone))
        return self._sizes[key]


def _read(predictor: Predictor) -> tuple[int, int]:
    phases = {phase.name: phase.after_bytes for phase in predictor.at(1).phases}
    return phases["load"], phases["backward"] - phases["zero_grad"]


def numbers_of(workload: Workload, predictor_of: PredictorOf) -> Numbers:
    """The numbers of a workload's model.

    Raises:
        UsageError: the model is code, or its configuration lacks what is needed.
    """
    model = workload.model
    counted = None
    if model.config is not None and model.parameters is None:
        plain = Workload(model, mode="inference", precision="fp32")
        counted = predictor_of(plain).at(1).components["parameter"] // _BYTES["fp32"]
    sizes = outline(model, counted)
    return Numbers(
        hidden=sizes.hidden,
        layers=sizes.layers,
        effort=Effort(
            layer_weights=sizes.layer_weights,
            head_weights=sizes.head_weights,
            attention_width=sizes.layers * sizes.heads * sizes.head_dim,
        ),
        predictor_of=predictor_of,
        tied_weights=sizes.head_weights if sizes.tied else 0,
    )
