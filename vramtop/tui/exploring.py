"""The question of the what-if pane and the batch explorer: answered by formula, then traced."""

from __future__ import annotations

import dataclasses
import gc
import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from textual.app import App
from textual.timer import Timer

from .. import predict
from ..core.observed import ObservedPeak
from ..errors import UsageError, VramtopError
from ..estimator.checks import validate
from ..estimator.closed import ClosedPredictor
from ..estimator.judge import Replaying, judge
from ..estimator.ranks import Fullest
from ..estimator.result import Estimate, Predictor, Progress
from ..estimator.sweep import sweep
from ..estimator.workload import Workload, to_json
from ..predict.background import Background
from ..predict.yielding import Yielding
from ..trace import client
from ..trace.tracer import Tracer
from .exploration import Exploration

REST_S: Final = 0.3
"""How long keys must rest before the trace is asked."""
_MOST_UNDO: Final = 200
_FITTED: Final = "through peaks seen: its model cannot be rebuilt here"


class Exploring:
    """The newest answer about a workload that the user changes at will.

    Lives on the app's thread. ``method`` is ``auto``, ``trace`` (the same: formulas come first) or
    ``closed-form``, with which nothing is traced.
    """

    def __init__(
        self,
        app: App[Any],
        workload: Workload,
        *,
        method: str = "auto",
        others_bytes: int = 0,
    ) -> None:
        """``others_bytes`` are used on the device, and already taken off the workload's."""
        self.home = workload
        """What the user began with."""
        self._app = app
        self._untraced = _why_untraced(method)
        self._callbacks: list[Callable[[], None]] = []
        self._background = Background(self._notify)
        self._timer: Timer | None = None
        self._key = ""
        self._traced: tuple[str, Predictor] | None = None
        """The last trace, which serves every batch, and what it is of; used on the thread."""
        self._fitted: Predictor | None = None
        """The line of a process whose workload is not known but for its batch."""
        self._is_started = False
        self._before: list[tuple[Workload, str]] = []
        """(workload, what changed it) for undo, oldest first."""
        blank = Exploration(workload, None, None, others_bytes=others_bytes)
        self.exploration = self._by_formula(workload, blank)

    # What the screens call.

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after every change of ``exploration``."""
        self._callbacks.append(callback)

    def unsubscribe(self, callback: Callable[[], None]) -> None:
        """Call it no more."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def change(self, workload: Workload, by: str = "") -> None:
        """Ask about another workload; changes by the same control are undone together.

        ``by``: a control's name, or the words of a piece of advice.
        """
        before = self.exploration.workload
        if workload == before:
            return
        if not by or not self._before or self._before[-1][1] != by:
            self._before = [*self._before[-_MOST_UNDO:], (before, by)]
        self._ask(workload)

    def undo(self) -> str | None:
        """Back to before the last change; what that was by, None where there is none."""
        if not self._before:
            return None
        workload, by = self._before.pop()
        self._ask(workload)
        return by

    def begin(
        self,
        workload: Workload,
        *,
        live: str = "",
        others_bytes: int = 0,
        outside_bytes: int | None = None,
        observed: Sequence[ObservedPeak] = (),
        fitted: Predictor | None = None,
    ) -> None:
        """Start anew from a workload, which is that of the live process where there is one.

        ``outside_bytes``: what that process has outside its allocator, where it is known.
        ``fitted`` answers where the workload only names what the process trains.
        """
        self.home = workload
        self._fitted = fitted
        self._before = []
        self.exploration = dataclasses.replace(
            self.exploration,
            live=live,
            others_bytes=others_bytes,
            outside_bytes=outside_bytes,
            observed=tuple(observed),
            notice="",
        )
        self._is_started = True
        self._ask(workload)

    def refit(self, fitted: Predictor) -> None:
        """Take a newer line of the process that was begun with."""
        if fitted is not self._fitted:
            self._fitted = fitted
            self._ask(self.exploration.workload)

    def observe(self, observed: Sequence[ObservedPeak]) -> None:
        """Show these peaks of the live process."""
        if tuple(observed) != self.exploration.observed:
            self._show(dataclasses.replace(self.exploration, observed=tuple(observed)))

    @property
    def is_touched(self) -> bool:
        """Whether the user has changed anything."""
        return bool(self._before)

    def say(self, notice: str) -> None:
        """Show a line about where the workload comes from."""
        if notice != self.exploration.notice:
            self._show(dataclasses.replace(self.exploration, notice=notice))

    def start(self) -> None:
        """Ask for the trace of what was begun with; once is enough."""
        if not self._is_started:
            self._is_started = True
            self._trace_later()

    def close(self) -> None:
        """End what runs."""
        self._callbacks.clear()
        self._background.close()

    # How answers come.

    def _ask(self, workload: Workload) -> None:
        exploration = self._by_formula(workload, self.exploration)
        self._show(exploration)
        self._trace_later()

    def _show(self, exploration: Exploration) -> None:
        self.exploration = exploration
        for callback in (*self._callbacks,):
            callback()

    def _by_formula(self, workload: Workload, before: Exploration) -> Exploration:
        """The closed form's answer, or why there is none."""
        blank = dataclasses.replace(
            before,
            workload=workload,
            estimate=None,
            predictor=None,
            is_exact=False,
            progress="",
            problem="",
            untraced=self._untraced,
        )
        if (line := self._fitted) is not None:
            estimate = judge(line, workload)
            return dataclasses.replace(blank, estimate=estimate, predictor=line, untraced=_FITTED)
        try:
            validate(workload)
        except UsageError as error:
            return dataclasses.replace(blank, problem=str(error))
        try:
            closed = ClosedPredictor(workload, self._outside_bytes(workload, before))
            estimate = judge(closed, workload)
        except UsageError as error:
            if blank.untraced:
                return dataclasses.replace(blank, problem=f"{error}; {blank.untraced}")
            return dataclasses.replace(blank, progress="tracing")
        progress = "" if blank.untraced else "tracing"
        return dataclasses.replace(blank, estimate=estimate, predictor=closed, progress=progress)

    def _trace_later(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        self._key = ""
        self._background.drop()
        exploration = self.exploration
        if not exploration.problem and not exploration.untraced:
            self._timer = self._app.set_timer(REST_S, self._trace)

    def _trace(self) -> None:
        workload = self.exploration.workload
        outside_bytes = self._outside_bytes(workload, self.exploration)
        key = self._key = f"{json.dumps(to_json(workload), sort_keys=True)} {outside_bytes}"

        def work(tracer: Tracer, progress: Progress) -> tuple[Estimate, Predictor]:
            return self._traced_answer(workload, outside_bytes, key, tracer, progress)

        self._background.ask(key, work)
        self._look()

    def _outside_bytes(self, workload: Workload, exploration: Exploration) -> int | None:
        """What the live process has outside its allocator, as long as what it is made of stays."""
        home = self.home
        own = (home.model, home.backend, home.parallel)
        is_own = (workload.model, workload.backend, workload.parallel) == own
        return exploration.outside_bytes if is_own else None

    def _traced_answer(
        self,
        workload: Workload,
        outside_bytes: int | None,
        key: str,
        tracer: Tracer,
        progress: Progress,
    ) -> tuple[Estimate, Predictor]:
        """Runs on the background's thread."""
        # A batch of 1 is traced by itself, so a trace made for others does not serve it.
        alike = to_json(workload.with_batch(min(workload.batch, 2)))
        trace = f"{json.dumps(alike, sort_keys=True)} {outside_bytes}"
        if self._traced is None or self._traced[0] != trace:
            made = predict.traced(workload, progress, tracer)
            if outside_bytes is not None:
                assert not isinstance(made, Fullest)  # of pipelines, which no probe tells of
                made = made.with_outside(outside_bytes)
            self._traced = trace, made
            # Its many objects make no cycles, and a collector that looks for some stops the screen.
            gc.freeze()
        progress("replaying the allocator", 0)
        predictor = self._traced[1]
        judged = predictor
        if isinstance(predictor, Replaying):
            # Many replays, all of this process's interpreter, which the next key wants.
            judged = Yielding(predictor, lambda: self._background.wants(key))
        estimate = judge(judged, workload)
        sweep(estimate, predictor)  # so that the explorer finds its replays done
        return estimate, predictor

    def _notify(self) -> None:
        """Called on the background's thread."""
        self._app.call_later(self._look)

    def _look(self) -> None:
        """Take in what the background has done; called on the app's thread."""
        if not self._key:
            return
        answer = self._background.answer_of(self._key)
        exploration = self.exploration
        if answer is None:
            progress = self._background.progress or exploration.progress
            self._show(dataclasses.replace(exploration, progress=progress))
            return
        self._key = ""
        if isinstance(answer, VramtopError):
            # The formulas' answer stands where there is one.
            said = f"not traced: {answer}"
            problem = said if exploration.estimate is None else ""
            untraced = "" if problem else said
            self._show(
                dataclasses.replace(exploration, progress="", problem=problem, untraced=untraced)
            )
            return
        estimate, predictor = answer
        self._show(
            dataclasses.replace(
                exploration,
                estimate=estimate,
                predictor=predictor,
                is_exact=True,
                progress="",
                untraced="",
            )
        )


def _why_untraced(method: str) -> str:
    if method == "closed-form":
        return "formulas only, as asked (--method closed-form)"
    if (reason := client.why_not()) is not None:
        return f"formulas only: {reason}"
    return ""
