"""The part of the app that puts the probe into the selected process."""

from __future__ import annotations

import time
from functools import partial

from textual.message import Message
from textual.worker import get_current_worker

from ..core.model import Process
from ..core.ranks import JobRow
from ..errors import VramtopError
from .dialogs import Dialogs
from .frame import View

_TELL_EVERY_S = 0.25
_WATCHED = {
    "streaming": "its memory is explained already",
    "waiting": "a probe is in it and waits for torch",
    "stale": "a probe is in it, but has not spoken for a while",
}
_WHAT_IS_DONE = (
    "gdb (or lldb) holds it for some 0.1 s and has its interpreter load the probe at the next "
    "safe point; Python 3.14 and newer is not held at all. Its files and settings stay as they "
    "are. `vramtop attach --detach {pid}` takes the probe out again."
)


class AttachSaid(Message):
    """Something to say of an attach; ``is_end`` when there is no more to come."""

    def __init__(self, text: str, *, is_end: bool = False, is_refusal: bool = False) -> None:
        super().__init__()
        self.text = text
        self.is_end = is_end
        self.is_refusal = is_refusal


class Attaching(Dialogs):
    """An app that can attach."""

    def __init__(self, view: View) -> None:
        super().__init__(view)
        self._attaching_to: int | None = None

    def action_attach(self) -> None:
        """Ask, then put the probe into the selected process."""
        from .screens.confirm import ConfirmScreen

        process = self.frame.process if self.frame else None
        if why := self._why_not_attach(process):
            self._change(message=why)
        elif process is not None:

            def answered(is_yes: bool | None) -> None:
                if is_yes:
                    self._begin_attach(process)
                else:
                    self._change(message="not attached")

            question = "Put vramtop's probe into this process?"
            more = _WHAT_IS_DONE.format(pid=process.pid)
            self.push_screen(ConfirmScreen(process, question, "Attach", more), answered)

    def _why_not_attach(self, process: Process | None) -> str | None:
        if self._attaching_to is not None:
            return f"still attaching to process {self._attaching_to}"
        if self.frame and isinstance(job := self.frame.row, JobRow):
            if job.is_well:
                return "every rank of this row has its probe already"
            return f"this row is {len(job.ranks)} processes: press f and choose one of them"
        if process is None or process.state != "running":
            return "no running process is selected"
        watched = _WATCHED.get(process.probe.state)
        return f"process {process.pid}: {watched}" if watched else None

    def _begin_attach(self, process: Process) -> None:
        self._attaching_to = process.pid
        self._change(message=f"attaching to process {process.pid}")
        work = partial(self._attach_in_thread, process.pid, process.started_at)
        self.run_worker(work, name="attach", thread=True)

    def _attach_in_thread(self, pid: int, started_at: float | None) -> None:
        """On a thread; leaving the app ends it, the process runs on in any case."""
        from ..inject.attacher import attach
        from ..inject.words import in_words
        from ..sources.signals import check_same

        worker, told_at = get_current_worker(), 0.0

        def tell(text: str) -> None:
            nonlocal told_at
            if worker.is_cancelled:
                raise KeyboardInterrupt
            if time.monotonic() - told_at >= _TELL_EVERY_S:
                told_at = time.monotonic()
                self.post_message(AttachSaid(text))

        try:
            check_same(pid, started_at)
            said = AttachSaid(in_words(attach(pid, tell)), is_end=True)
        except VramtopError as error:
            said = AttachSaid(str(error), is_end=True, is_refusal=True)
        except KeyboardInterrupt:
            return
        except Exception as error:  # ours: it must not end the app
            said = AttachSaid(
                f"internal error: {type(error).__name__}: {error}", is_end=True, is_refusal=True
            )
        self.post_message(said)

    def on_attach_said(self, message: AttachSaid) -> None:
        """Show it; a refusal in full."""
        if message.is_end:
            self._attaching_to = None
        if message.is_refusal and self.frame is not None:
            from .screens.refusal import RefusalScreen

            self._change(message="not attached")
            self.push_screen(RefusalScreen(self.frame, message.text))
        else:
            self._change(message=message.text)
