"""The part of the app that opens what-if and the batch explorer on the selected process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.breakdowns import outside_bytes
from ..core.fleet import ProcessKey
from ..core.model import Process
from .frame import Frame, View
from .postmortems import PostMortems

if TYPE_CHECKING:  # the estimator is loaded when it is first asked
    from .exploring import Exploring


class Explorers(PostMortems):
    """An app whose selected process can be explored."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._exploring: Exploring | None = None
        self._followed: tuple[ProcessKey, str] | None = None
        """The process, on one torch device, that the exploration is of."""
        self._is_rebuilt = False
        """Whether its workload is known."""

    def on_mount(self) -> None:
        """Follow the live process."""
        self.watch(self, "frame", self._follow, init=False)

    def on_unmount(self) -> None:
        """End the tracer."""
        self._end()

    def action_what_if(self) -> None:
        """Turn the controls of the selected process's workload."""
        if not self._begin() or self._exploring is None:
            return
        if self._exploring.exploration.is_fitted:
            from .screens.explorer import ONLY_ITS_BATCH

            self._exploring.say(ONLY_ITS_BATCH)
            self._open_explorer()
        else:
            self._open_what_if()

    def action_batches(self) -> None:
        """Explore the batch size of the selected process."""
        if self._begin():
            self._open_explorer()

    def _open_explorer(self) -> None:
        from .screens.explorer import ExplorerScreen

        def left(to: str | None) -> None:
            if to == "what-if":
                self._open_what_if()
            else:
                self._end()

        if self._exploring is not None:
            self.push_screen(ExplorerScreen(self._exploring), left)

    def _open_what_if(self) -> None:
        from .screens.whatif import WhatIfScreen

        if self._exploring is not None:
            self.push_screen(WhatIfScreen(self._exploring), lambda _: self._end())

    def _begin(self) -> bool:
        """Make an exploration; False while there is nothing on the screen, or one is open."""
        frame = self.frame
        if frame is None or self._exploring is not None:
            return False
        from .exploring import Exploring
        from .stand_in import MODEL, stand_in, why_not_live

        workload, used_bytes, where = stand_in(frame)
        exploring = self._exploring = Exploring(self, workload, others_bytes=used_bytes)
        why = why_not_live(frame)
        if why or frame.process is None or frame.torch_device is None:
            self._stand_in(exploring, f"this is {MODEL}{where}: {why}")
        else:
            self._followed, self._is_rebuilt = (frame.process.key, frame.torch_device), False
            self._follow(frame)
        return True

    def _end(self) -> None:
        self._followed = None
        if self._exploring is not None:
            self._exploring.close()
            self._exploring = None

    def _follow(self, frame: Frame | None) -> None:
        """Take the live process's workload as soon as it is known, and its peaks as they come."""
        exploring = self._exploring
        if exploring is None or frame is None or self._followed is None:
            return
        from .screens.whatif import WhatIfScreen
        from .stand_in import MODEL, named, others_bytes

        key, torch_device = self._followed
        process = frame.fleet.process(key)
        observed = frame.fleet.observed.get((key, torch_device), ())
        is_gone = process is None or process.state == "gone"
        if self._is_rebuilt:
            exploring.observe(observed)
            if process is not None and not is_gone and exploring.exploration.is_fitted:
                self._refit(exploring, frame, process, torch_device)
            return
        if process is None or is_gone:
            self._stand_in(exploring, f"this is {MODEL}: process {key[0]} has ended")
            self._followed = None
            return
        if frame.predict is None:
            return
        prediction = frame.predict(process, torch_device, frame.fleet)
        who = f"process {process.pid}"
        expecting = prediction.expecting if prediction else None
        workload, fitted = (expecting.workload if expecting else None), None
        shows_what_if = any(isinstance(screen, WhatIfScreen) for screen in self.screen_stack)
        if expecting is not None and workload is None and not shows_what_if:
            workload, fitted = named(frame, process, torch_device), expecting.predictor
        if workload is not None and not exploring.is_touched:
            self._is_rebuilt = True
            exploring.begin(
                workload,
                live=f"pid {process.pid} {torch_device}",
                others_bytes=others_bytes(frame, process, torch_device, workload),
                outside_bytes=outside_bytes(process, torch_device),
                observed=observed,
                fitted=fitted,
            )
        elif workload is not None:
            exploring.say(f"{who} is rebuilt now: esc, then e, explores it")
        elif expecting is not None:
            why = "cannot be rebuilt here; esc, then b, explores its batch alone"
            self._stand_in(exploring, f"this is {MODEL}: {who} {why}")
        elif prediction is None or prediction.problem:
            why = prediction.problem if prediction else "its memory is not explained"
            self._stand_in(exploring, f"this is {MODEL}, not {who}: {why}")
        else:
            exploring.say(f"this is {MODEL} while {who} is rebuilt: {prediction.progress}")

    def _refit(
        self, exploring: Exploring, frame: Frame, process: Process, torch_device: str
    ) -> None:
        """Take the newer line, once more peaks were seen."""
        prediction = frame.predict(process, torch_device, frame.fleet) if frame.predict else None
        expecting = prediction.expecting if prediction else None
        if expecting is not None and expecting.workload is None:
            exploring.refit(expecting.predictor)

    def _stand_in(self, exploring: Exploring, why: str) -> None:
        """Explore the small model, at least until the process can be."""
        exploring.say(why)
        exploring.start()
