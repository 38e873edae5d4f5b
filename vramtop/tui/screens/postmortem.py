"""Why a process failed: the story of a post-mortem, told anew as more of it is known."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.strip import Strip

from ...core.failure import Failure
from ...core.fleet import ProcessKey
from ...core.model import PostMortem, Process
from ...core.oom_figures import figures
from ...core.postmortem_story import Story, story
from ...core.units import NOT_AVAILABLE
from ...draw.postmortem import Toned, story_lines, wrapped
from ...errors import VramtopError
from ..frame import Frame
from ..paint import Piece, line
from ..panes.base import sentences
from ..predicting import PredictionCame
from ..theme import TEXTURES, Ink
from .overlay import OverlayScreen

if TYPE_CHECKING:
    from ...estimator.result import Progress
    from ...predict.background import Background
    from ...predict.postmortem import Foreseen
    from ...trace.tracer import Tracer


class PostMortemScreen(OverlayScreen):
    """One failed process; its file is read, and its step predicted, beside the screen's thread."""

    TITLE_TEXT = "Why"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("w", "dismiss", show=False)]

    def __init__(self, frame: Frame, key: ProcessKey) -> None:
        super().__init__(frame)
        self._key = key
        self._file: PostMortem | None = None
        self._read_of: tuple[str | None, bool | None] = (None, None)
        """Which file was read, and what was known by then: it is completed when that is."""
        self._is_reading = False
        self._background: Background | None = None
        self._question = ""
        """The key of what was asked of it last."""

    def on_unmount(self) -> None:
        """End what is being predicted."""
        if self._background is not None:
            self._background.close()

    def show(self, frame: Frame) -> None:
        """Show this frame, and ask for what it lets be known beyond it."""
        self._frame = frame
        seen = frame.fleet.process(self._key)
        if seen is not None:
            self._read(seen.probe.failure)
        process = self._process(frame)
        if process is not None:
            self._predict(frame, process)
        super().show(frame)

    def lines(self, frame: Frame, width: int) -> list[Strip]:
        """The story, as far as it is known."""
        process = self._process(frame)
        told = None if process is None else self._story(frame, process)
        if process is None or told is None:
            return sentences(["the process is forgotten: `vramtop postmortem`"], width, frame)
        ink = frame.ink
        head = f"pid {process.pid} · {process.command or NOT_AVAILABLE}"
        drawn = [*wrapped(head, width, "dim"), (), *story_lines(told, width, mono=ink.mono)]
        if told.failure.file is not None:
            kept = f"kept: vramtop postmortem {told.failure.file}"
            drawn += [(), *wrapped(kept, width, "dim")]
        return [line([_piece(part, ink) for part in parts], width, ink("text")) for parts in drawn]

    def _process(self, frame: Frame) -> Process | None:
        """With what it wrote down at the moment itself, where that was read."""
        process = frame.fleet.process(self._key)
        if process is None or self._file is None:
            return process
        from ...sources.figures import with_process_figures

        probe = replace(self._file.process.probe, history=None)
        resident = self._file.process.host_rss_bytes or process.host_rss_bytes
        return replace(process, probe=with_process_figures(probe, process.devices, resident))

    def _story(self, frame: Frame, process: Process) -> Story | None:
        predicted, text, batch = None, "", None
        made = self._foreseen()
        if made is not None:
            from ...predict.postmortem import telling

            predicted, text, batch = telling(made, self._file.prediction if self._file else None)
        elif self._background is not None:
            text = f"{self._background.progress} …"
        return story(
            frame.fleet,
            process,
            traceback=self._file.traceback if self._file else None,
            predicted=predicted,
            predicted_text=text,
            batch=batch,
        )

    def _read(self, failure: Failure | None) -> None:
        path = failure.file if failure else None
        if failure is None or path is None:
            self._file = None  # the program went on
            return
        if self._read_of == (path, failure.caught):
            return
        self._read_of, self._is_reading = (path, failure.caught), True

        def work() -> None:
            from ...sources.postmortem import read

            found = None
            with suppress(VramtopError):  # what was seen of it is told all the same
                found = read(Path(path))
            self.app.call_from_thread(self._came, found)

        self.run_worker(work, thread=True, group="read")

    def _came(self, found: PostMortem | None) -> None:
        self._is_reading = False
        if found is not None and found.process.pid == self._key[0]:
            self._file = found
        self.show(self._frame)

    def _predict(self, frame: Frame, process: Process) -> None:
        """Ask once what is known of the failure; not what pane 8 says, which is of other shapes."""
        failure = process.probe.failure
        if failure is None or self._is_reading:
            return
        question = f"{failure.at} {self._read_of}"
        if question == self._question:
            return
        from ...predict.background import Background

        if self._background is None:
            self._background = Background(partial(self.app.post_message, PredictionCame()))
        self._question = question
        fleet, at = frame.fleet, figures(frame.fleet, process, failure)

        def work(tracer: Tracer, progress: Progress) -> Foreseen:
            from ...predict.postmortem import foreseen

            return foreseen(fleet, process, at, progress, tracer)

        self._background.ask(question, work)

    def _foreseen(self) -> Foreseen | VramtopError | None:
        return self._background.answer_of(self._question) if self._background else None


def _piece(part: Toned, ink: Ink) -> Piece:
    text, tone, on = part
    if tone == "strong":
        return text, ink("text", on, bold=True)
    if tone in TEXTURES and not ink.mono:
        text = text.replace("█", TEXTURES[tone]).replace("■", TEXTURES[tone])
    return text, ink(tone, on, bold=tone == "error")
