"""The part of the app that tells why a process failed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from ..core.alerts import Alert
from ..core.model import Process
from ..core.ranks import JobRow
from .frame import Frame
from .navigation import Navigation


class PostMortems(Navigation):
    """An app whose failed processes are explained."""

    _is_live = True
    """What is shown happens now: a replay writes nothing."""
    _foretold: frozenset[str] = frozenset()
    """Post-mortem files that have been given the prediction, where there was one."""

    def on_mount(self) -> None:
        """See who fails."""
        if self._is_live:
            self.watch(self, "frame", self._keep_predictions, init=False)

    def action_post_mortem(self) -> None:
        """The story of the selected process's failure, else of the one that is warned of."""
        frame = self.frame
        if frame is None:
            return
        failed = _failed(frame)
        if not failed:
            self._change(
                message="no process here has failed; `vramtop postmortem` tells of earlier ones"
            )
            return
        from .screens.postmortem import PostMortemScreen

        pids = {process.pid for process in failed}
        known = {alert.key for alert in _warned(frame) if alert.pid in pids}
        self._change(seen=self._view.seen | known)
        self.push_screen(PostMortemScreen(self.frame or frame, failed[0].key))

    def _keep_predictions(self, frame: Frame | None) -> None:
        """Put what was predicted of a process into its post-mortem; nothing is begun for it."""
        for process in frame.fleet.processes if frame else ():
            failure = process.probe.failure
            if process.probe.state != "gone" or failure is None or failure.file is None:
                continue
            if failure.file not in self._foretold:
                self._foretold |= {failure.file}
                self._keep_prediction(process, Path(failure.file))

    def _keep_prediction(self, process: Process, path: Path) -> None:
        from ..core.oom_figures import failed_device
        from ..predict.as_values import prediction_object
        from ..sources.postmortem import add_prediction

        failure = process.probe.failure
        device = failed_device(process, failure) if failure else None
        made = self._predict.known(process, device) if device else None
        values = prediction_object(made)
        if made is not None and made.comparison is not None and values is not None:
            self.run_worker(partial(add_prediction, path, values), thread=True)


def _warned(frame: Frame) -> list[Alert]:
    """The failures that the screen warns of."""
    return [alert for alert in frame.alerts if alert.kind in {"oom", "lost"}]


def _failed(frame: Frame) -> list[Process]:
    """The failed processes that are meant, the cause first; several of one job.

    Those of the selected row, unless only others are warned of.
    """
    warned = {alert.pid for alert in _warned(frame)}
    row = frame.row
    ranks = row.ranks if isinstance(row, JobRow) else (row,) if row else ()
    selected = _by_cause(rank.process for rank in ranks)
    if selected and (not warned or any(process.pid in warned for process in selected)):
        return selected
    failed = [
        ((process.pid in warned, failure.at, place), process)
        for place, process in enumerate(frame.fleet.processes)
        if (failure := process.probe.failure) is not None and not failure.caught
    ]
    if not failed:
        return selected
    latest = max(failed)[1]
    group = latest.probe.group
    if group is None:
        return [latest]
    return _by_cause(process for _, process in failed if process.probe.group == group)


def _by_cause(processes: Iterable[Process]) -> list[Process]:
    """The first that failed first: of a job others are lost when one is out of memory."""
    failed = [
        ((bool(failure.caught), failure.kind != "oom", failure.at, place), process)
        for place, process in enumerate(processes)
        if (failure := process.probe.failure) is not None
    ]
    return [process for _, process in sorted(failed)]
