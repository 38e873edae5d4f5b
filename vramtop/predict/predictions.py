"""Predictions of the processes that are watched: made in the background, kept, held beside them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Final

from ..core.breakdowns import breakdown_of, detail_of, torch_devices
from ..core.fleet import Fleet, ProcessKey
from ..core.model import Device, Process
from ..core.observed import ObservedPeak, batch_and_sequence
from ..core.phases import inference_of
from ..errors import VramtopError
from ..estimator.comparison import Comparison, compare
from ..estimator.expected import Expected, Expecting
from ..estimator.live.job import main_model
from ..estimator.result import Progress
from .background import Background, Work
from .live import expect, signature

if TYPE_CHECKING:
    from ..trace.tracer import Tracer

_KEPT: Final = 16
"""Processes whose last prediction is remembered."""
_REST: Final = 3.0
"""How many times as long as an answer took nothing else is asked of its process."""
_A: Final = {"evaluation": "an evaluation", "generation": "a generation"}
AT_ONCE_S: Final = 20.0
"""How long a prediction may take where somebody waits for nothing else."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one process should hold on one torch device, as far as that is known yet."""

    expecting: Expecting | None = None
    """For any batch size; of the process as it was when it was last asked for."""
    comparison: Comparison | None = None
    """Beside what it does hold, at the batch size of its last sampled step."""
    progress: str = ""
    """What is being done for a newer answer; "" while nothing is."""
    problem: str = ""
    """Why there is none, one line; "" where there is one; beside ``progress``: as yet."""


@dataclass(slots=True)
class _Place:
    """What is known of one process on one torch device."""

    answer: Expecting | VramtopError | None = None
    """The newest, shown while the next one is made."""
    answered: str = ""
    """The key of its question."""
    asked: tuple[str, Work] | None = None
    """The question that is on its way."""
    asked_at: float = 0.0
    rests_until: float = 0.0
    expected: Expected | None = None
    """Of the answer, at the batch size of the last sampled step."""


class Predictions:
    """Keeps for every process that is asked about what it should hold; never blocks.

    ``notify`` is called on another thread when asking again would give something new.
    """

    def __init__(self, notify: Callable[[], object]) -> None:
        self._background = Background(notify)
        self._places: dict[tuple[ProcessKey, str], _Place] = {}

    def of(self, process: Process, torch_device: str, fleet: Fleet) -> Prediction | None:
        """The prediction of a process's memory on one torch device; None without a probe there.

        Only the process that was asked about last is worked on.
        """
        breakdown = breakdown_of(process, torch_device)
        if breakdown is None:
            return None
        if not process.probe.models:
            return Prediction(problem="no model was seen yet: it is at its first forward or step")
        if not breakdown.parameter_bytes:
            return Prediction(problem=f"no model is on {torch_device}: nothing to predict there")
        if process.probe.detail == "pending" and detail_of(process, torch_device) is None:
            # That step tells how the loop goes; without it another trace would be made first.
            return Prediction(problem="it waits for the first step that is sampled in detail")
        place = self._place(process.key, torch_device)
        progress = self._ask(place, process, torch_device, fleet)
        if isinstance(place.answer, VramtopError) and not progress:
            return Prediction(problem=str(place.answer))
        if place.answer is None or isinstance(place.answer, VramtopError):
            return Prediction(progress=progress)
        return _beside(place, place.answer, process, torch_device, progress)

    def known(self, process: Process, torch_device: str) -> Prediction | None:
        """What was made for the process so far; nothing is begun."""
        place = self._places.get((process.key, torch_device))
        if place is None or place.answer is None or isinstance(place.answer, VramtopError):
            return None
        return _beside(place, place.answer, process, torch_device, "")

    def close(self) -> None:
        """End what is being done, within a second."""
        self._background.close()

    def _place(self, key: ProcessKey, torch_device: str) -> _Place:
        place = self._places.pop((key, torch_device), None) or _Place()
        self._places[key, torch_device] = place
        while len(self._places) > _KEPT:
            del self._places[next(iter(self._places))]
        return place

    def _ask(self, place: _Place, process: Process, torch_device: str, fleet: Fleet) -> str:
        """Ask where that may give another answer; what is being done for it, "" for nothing.

        One question is answered before the next is asked, and then there is a rest: of a training
        whose every step is another question (its sequences have all lengths) some are answered.
        """
        now = time.monotonic()
        observed = fleet.observed.get((process.key, torch_device), ())
        told = signature(process, torch_device, observed)
        key = f"{process.key} {torch_device} {told}"
        if place.asked is None and key != place.answered and now >= place.rests_until:
            work = _work(process, torch_device, fleet.snapshot.devices, observed)
            place.asked, place.asked_at = (key, work), now
        if place.asked is None:
            return ""
        self._background.ask(*place.asked)
        answer = self._background.answer_of(place.asked[0])
        if answer is None:
            return self._background.progress or "waiting"
        place.answer, place.answered, place.expected = answer, place.asked[0], None
        place.asked, place.rests_until = None, now + _REST * (now - place.asked_at)
        return ""


def _beside(
    place: _Place, expecting: Expecting, process: Process, torch_device: str, progress: str
) -> Prediction:
    batch, sequence = _batch_and_sequence(process, torch_device)
    if batch is None:
        return Prediction(expecting, progress=progress, problem="its batch size is not known yet")
    expected = place.expected
    if expected is None or expected.batch != batch:
        try:
            expected = place.expected = expecting.at(batch)
        except VramtopError as error:
            return Prediction(expecting, progress=progress, problem=str(error))
    detail = detail_of(process, torch_device)
    inference = inference_of(detail) if detail else None
    if inference and _is_of_training(expected, process):
        other = f"the last recorded step is {_A[inference]}; the prediction is of a training step"
        return Prediction(expecting, progress=progress, problem=other)
    predicted = expected.sequence
    if expected.source != "fitted" and None not in (sequence, predicted) and sequence != predicted:
        other = f"the last sampled step had {sequence} tokens a sample, the prediction {predicted}"
        return Prediction(expecting, progress=progress, problem=other)
    return Prediction(expecting, compare(process, torch_device, expected), progress)


def _is_of_training(expected: Expected, process: Process) -> bool:
    """A line through peaks has no phases; where there is an optimizer they were a training's."""
    if expected.source == "fitted":
        return bool(process.probe.optimizers)
    return any(phase.name == "backward" for phase in expected.phases)


def _batch_and_sequence(process: Process, torch_device: str) -> tuple[int | None, int | None]:
    """Of the last step sampled in detail, else of the last forward."""
    try:
        model = main_model(process)
    except VramtopError:  # several
        model = process.probe.models[0]
    return batch_and_sequence(model, detail_of(process, torch_device))


def of_fleet(
    fleet: Fleet, progress: Callable[[str], None], limit_s: float = AT_ONCE_S
) -> dict[ProcessKey, Prediction]:
    """Predictions of every process with a streaming probe, of the device that it uses most.

    Takes up to ``limit_s`` for each; one that takes longer, or fails, says so as its problem.
    """
    found: dict[ProcessKey, Prediction] = {}
    for process in fleet.snapshot.processes:
        names = torch_devices(process)
        if process.probe.state == "streaming" and names:
            made = _at_once(process, names[0], fleet, progress, limit_s)
            found[process.key] = made
    return found


def _at_once(
    process: Process,
    torch_device: str,
    fleet: Fleet,
    progress: Callable[[str], None],
    limit_s: float,
) -> Prediction:
    changed = Event()
    predictions = Predictions(changed.set)
    until = time.monotonic() + limit_s
    try:
        while True:
            changed.clear()
            made = predictions.of(process, torch_device, fleet) or Prediction()
            if not made.progress:
                return made
            if (left := until - time.monotonic()) <= 0:
                late = f"not predicted within {limit_s:g} s; the live screen waits for it"
                return Prediction(problem=late)
            progress(f"predicting {process.pid}: {made.progress}")
            changed.wait(left)
    finally:
        predictions.close()


def _work(
    process: Process,
    torch_device: str,
    devices: tuple[Device, ...],
    observed: tuple[ObservedPeak, ...],
) -> Work:
    def work(tracer: Tracer, progress: Progress) -> Expecting:
        return expect(process, torch_device, devices, observed, progress, tracer)

    return work
