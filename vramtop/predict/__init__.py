"""``vramtop.estimate``: what a workload will take, by the best method that works here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UsageError
from ..estimator.checks import validate
from ..estimator.judge import judge
from ..estimator.layers import NotRepeating, Stack, repeat
from ..estimator.pattern import NotAffine, Pattern, affine, single
from ..estimator.recording import Recording
from ..estimator.result import Estimate, Predictor, Progress
from ..estimator.stacks import traced_as
from ..estimator.timeline import Timeline
from ..estimator.workload import Workload

if TYPE_CHECKING:
    from ..estimator.ranks import Fullest, StepPredictor
    from ..trace.tracer import Tracer

METHODS = ("auto", "trace", "closed-form", "seed")
_AFFINE_BATCHES = (2, 3)
"""Two that tell the line; at 1 some tensors have other layouts, so it is traced by itself."""


def estimate(
    workload: Workload, method: str = "auto", progress: Progress | None = None
) -> Estimate:
    """What a workload will take on the fullest GPU, whether it fits, and what to change.

    ``method``: ``trace`` runs the real modules on fake tensors in a process of its own (needs
    torch and transformers, not a GPU; seconds, instantly when asked again); ``closed-form`` takes
    formulas (no torch, a millisecond); ``seed`` the rules of thumb that the project began with;
    ``auto`` is ``trace`` where that is possible.

    Raises:
        UsageError: the workload is impossible, or cannot be done by this method.
    """
    validate(workload)
    return judge(predictor(workload, method, progress), workload)


def predictor(
    workload: Workload,
    method: str = "auto",
    progress: Progress | None = None,
    tracer: Tracer | None = None,
) -> Predictor:
    """Footprints of a workload for any batch size; ``tracer``: one that is already running."""
    if method not in METHODS:
        raise UsageError(f"no method {method!r}; there are: {', '.join(METHODS)}")
    if method == "seed":
        from ..estimator import seed

        return seed.predictor(workload)
    if method == "closed-form" or (method == "auto" and not can_trace()):
        from ..estimator import closed

        return closed.predictor(workload)
    return traced(workload, progress or silent, tracer)


def can_trace() -> bool:
    """Whether torch and transformers are installed here."""
    from ..trace import client

    return client.why_not() is None


def silent(_text: str, _done: float) -> None:
    """Nobody watches."""


def traced(
    workload: Workload, progress: Progress, tracer: Tracer | None
) -> StepPredictor | Fullest:
    """The predictor of a trace.

    Raises:
        UsageError: it cannot be traced, here or at all.
    """
    from ..estimator.ranks import fullest
    from ..trace import client

    if (reason := client.why_not()) is not None:
        raise UsageError(f"--method trace: {reason}; or take --method closed-form")
    batches = [*_AFFINE_BATCHES]
    if workload.batch == 1:
        batches.insert(0, 1)
    recorded = {
        trace["batch"]: (
            Recording.from_json(trace["recording"]),
            [Stack(**stack) for stack in trace["stacks"]],
            trace["irregular"],
        )
        for trace in client.traces(traced_as(workload), batches, progress, tracer)
    }
    a, b = _AFFINE_BATCHES
    (first, stacks, irregular), (second, _, _) = recorded[a], recorded[b]
    try:
        line = _whole(affine(first, a, second, b), stacks, irregular)
    except NotAffine as error:
        raise UsageError(
            f"{workload.model.name}: {error}, so there is no curve over it; "
            "use --method closed-form"
        ) from None
    exact: dict[int, Timeline] = {}
    if 1 in recorded:
        recording, stacks, irregular = recorded[1]
        exact[1] = _whole(single(recording, 1), stacks, irregular)
    return fullest(line, exact, workload)


def _whole(pattern: Pattern, stacks: list[Stack], irregular: int) -> Timeline:
    try:
        for stack in stacks:
            pattern = repeat(pattern, stack, irregular)
    except NotRepeating as error:  # the tracer has tried at one batch size what failed at another
        raise UsageError(f"the layers of this model differ with the batch: {error}") from None
    return pattern.to_timeline()
