"""The part of the app that tells why a process failed."""

from __future__ import annotations

from ..core.model import Process
from .frame import Frame
from .navigation import Navigation


class PostMortems(Navigation):
    """An app whose failed processes are explained."""

    def action_post_mortem(self) -> None:
        """The story of the selected process's failure, else of the latest one."""
        frame = self.frame
        if frame is None:
            return
        process = _failed(frame)
        if process is None:
            self._change(
                message="no process here has failed; `vramtop postmortem` tells of earlier ones"
            )
            return
        from .screens.postmortem import PostMortemScreen

        self.push_screen(PostMortemScreen(frame, process.key))


def _failed(frame: Frame) -> Process | None:
    selected = frame.process
    if selected is not None and selected.probe.failure is not None:
        return selected
    failed = [
        (failure.at, place, process)
        for place, process in enumerate(frame.fleet.processes)
        if (failure := process.probe.failure) is not None and not failure.caught
    ]
    return max(failed)[2] if failed else None
