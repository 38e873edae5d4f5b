"""``--method seed``: a footprint by text 1's ``will_it_fit``, for comparison and not to rely on.

Only what the texts have is counted. Where they have a sentence and no formula (LoRA,
checkpointing) the lower saving that the sentence names is taken; the notes say so.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ..result import COMPONENTS, Footprint, PhaseUse
from ..workload import Workload
from .activations import checkpointed_bytes
from .max_batch import LORA_REDUCTION
from .optimizer import ADAM, state_bytes
from .shapes import shape_of
from .values import Shape
from .weights import STANDS_FOR, gradient_bytes
from .will_it_fit import Fit, will_it_fit


@dataclass(frozen=True, slots=True)
class SeedPredictor:
    """Text 1's sum over the batch size."""

    workload: Workload
    shape: Shape

    def process_bytes(self, batch: int) -> int:
        """The sum, which the text takes for allocated, reserved and process alike."""
        return round(self._fit(batch).total_bytes)

    def at(self, batch: int) -> Footprint:
        """The sum by component, and the text's waterfall in a step that has its states."""
        fit = self._fit(batch)
        components = dict.fromkeys(COMPONENTS, 0) | {
            "parameter": round(fit.parameter_bytes),
            "gradient": round(fit.gradient_bytes),
            "optimizer_state": round(fit.optimizer_bytes),
            "activation": round(fit.activation_bytes),
            "kv_cache": round(fit.kv_cache_bytes),
        }
        total = sum(components.values())
        phases = _phases(components, training=self.workload.training)
        return Footprint(
            method="seed",
            components=components,
            phases=phases,
            peak_allocated_bytes=total,
            peak_reserved_bytes=total,
            process_bytes=total,
            peak_phase="backward" if self.workload.training else "forward",
            notes=notes(self.workload),
        )

    def _fit(self, batch: int) -> Fit:
        workload = self.workload
        fit = will_it_fit(
            self.shape,
            precision=STANDS_FOR.get(workload.precision, workload.precision),
            training=workload.training,
            optimizer=workload.optimizer,
            batch=batch,
            sequence=workload.sequence + workload.new_tokens,
        )
        if workload.training and workload.lora is not None:
            trained = self.shape.parameters / LORA_REDUCTION[0]
            fit = dataclasses.replace(
                fit,
                gradient_bytes=gradient_bytes(trained, workload.precision),
                optimizer_bytes=state_bytes(trained, workload.optimizer),
            )
        if workload.training and workload.checkpointing != "none":
            fit = dataclasses.replace(
                fit, activation_bytes=checkpointed_bytes(fit.activation_bytes)[1]
            )
        return _divided(fit, workload)


def predictor(workload: Workload) -> SeedPredictor:
    """The seed formulas for a workload.

    Raises:
        UsageError: the model has no configuration with the few numbers that the formulas need.
    """
    return SeedPredictor(workload, shape_of(workload.model))


def notes(workload: Workload) -> tuple[str, ...]:
    """What the texts leave out of this workload, a sentence each."""
    said = [
        (
            "the formulas of the texts that the project began with: for comparison only "
            "(vramtop estimate --seed-tables shows them beside true figures)"
        ),
        (
            "allocated, reserved and process are the same to the texts: no context, no workspaces, "
            "no cached blocks, no logits, no transients of the optimizer"
        ),
    ]
    if workload.precision in STANDS_FOR:
        said.append(f"{workload.precision} is counted as {STANDS_FOR[workload.precision]}")
    if workload.training:
        said += _training_notes(workload)
    parallel = workload.parallel
    if parallel.gpus > 1 and _shards(workload) == 1 and parallel.zero:
        said.append(f"ZeRO-{parallel.zero} has no formula in the texts; counted as not divided")
    if parallel.context > 1 or parallel.expert > 1:
        said.append("context and expert parallelism have no formula in the texts; not divided")
    return tuple(said)


def _training_notes(workload: Workload) -> list[str]:
    said = []
    if workload.optimizer not in ADAM and workload.optimizer != "sgd":
        said.append(f"the texts count no states for {workload.optimizer}")
    if workload.lora is not None:
        said.append("LoRA: a hundredth of the parameters is trained, the most that text 1 names")
    if workload.checkpointing != "none":
        said.append("checkpointing: a fifth of the activations, the most that text 1 names")
    return said


def _shards(workload: Workload) -> int:
    """GPUs over which text 1 divides weights, gradients and states."""
    parallel = workload.parallel
    return parallel.shards if parallel.zero == 3 else 1


def _divided(fit: Fit, workload: Workload) -> Fit:
    """ZeRO-3 divides the states (text 1); TP · PP divides everything (text 2), its overhead 0."""
    parallel = workload.parallel
    model_parallel = parallel.tensor * parallel.pipeline
    states = model_parallel * _shards(workload)
    return Fit(
        parameter_bytes=fit.parameter_bytes / states,
        optimizer_bytes=fit.optimizer_bytes / states,
        gradient_bytes=fit.gradient_bytes / states,
        activation_bytes=fit.activation_bytes / model_parallel,
        kv_cache_bytes=fit.kv_cache_bytes / model_parallel,
    )


def _phases(components: dict[str, int], *, training: bool) -> tuple[PhaseUse, ...]:
    weights, gradients = components["parameter"], components["gradient"]
    states, activations = components["optimizer_state"], components["activation"]
    if not training:
        used = weights + components["kv_cache"]
        return (PhaseUse("load", weights, weights), PhaseUse("forward", used, used))
    kept = weights + states
    forward, total = kept + activations, kept + activations + gradients
    step = kept + gradients
    return (
        PhaseUse("load", weights, weights),
        PhaseUse("forward", forward, forward),
        PhaseUse("backward", step, total),
        PhaseUse("step", step, step),
        PhaseUse("zero_grad", kept, step),
    )
