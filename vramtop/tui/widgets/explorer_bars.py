"""The explorer's title, its keys, and what it says while there is nothing to explore."""

from __future__ import annotations

from textwrap import wrap
from typing import Final

from rich.cells import cell_len
from textual import events
from textual.message import Message

from ...estimator.controls import short_device
from ...estimator.explore_words import each_words
from ...estimator.workload import Workload
from ..exploration import Exploration
from ..paint import Piece, line, printable
from ..theme import Ink
from .canvas import Canvas

# Up to "back" 80 columns have room.
_KEYS: Final = (
    ("←→", "batch", "batch(1)"),
    ("space", "animate", "play"),
    ("v", "map", "turn"),
    ("enter", "detail", "waterfall"),
    ("e", "what-if here", "apply"),
    ("?", "help", "help"),
    ("esc", "back", "leave"),
    ("↑↓", "tokens", "sequence(1)"),
    ("x", "axes", "swap"),
)


class ExplorerTitle(Canvas):
    """What is explored."""

    def show(self, exploration: Exploration, ink: Ink) -> None:
        """Show this exploration."""
        workload, width = exploration.workload, self.size.width
        pieces: list[Piece] = [(" batch explorer ", ink("accent", "chip", bold=True))]
        name = printable(workload.model.name.rpartition("/")[2])
        pieces.append((f"{name} ", ink("text", "chip", bold=True)))
        device = short_device(workload.device.name) if workload.device else "no device"
        where = f"{exploration.live} on {device}" if exploration.live else device
        told = "only its batch can be changed" if exploration.is_fitted else _told(workload)
        pieces.append((f"· {where} · {told}", ink("dim", "chip")))
        self.paint([line(pieces, width, ink("dim", "chip"))])


class ExplorerFooter(Canvas):
    """The keys; clicking one does it."""

    class Asked(Message):
        """A key was clicked."""

        def __init__(self, action: str) -> None:
            super().__init__()
            self.action = action

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._places: list[tuple[int, str]] = []
        """(right edge, action) of each entry."""

    def show(self, ink: Ink, play: str) -> None:
        """Show what the keys do; ``play`` is what space does now."""
        pieces: list[Piece] = []
        self._places = []
        used = 0
        for key, label, action in _KEYS:
            text = f" {play if action == 'play' else label} "
            if used + cell_len(key) + 1 + len(text) > self.size.width:
                break
            pieces += [(f" {key}", ink("accent", "chip", bold=True)), (text, ink("text", "chip"))]
            used += cell_len(key) + 1 + len(text)
            self._places.append((used, action))
        self.paint([line(pieces, self.size.width, ink("text", "chip"))])

    def on_click(self, event: events.Click) -> None:
        """Do what was clicked."""
        for right, action in self._places:
            if event.x < right:
                self.post_message(self.Asked(action))
                return


class Waiting(Canvas):
    """Why there is no curve yet, and what to do."""

    def show(self, exploration: Exploration, ink: Ink) -> None:
        """Show this exploration."""
        width = self.size.width or self.app.size.width
        if exploration.problem:
            texts = [("This cannot be: " + exploration.problem, "error")]
            texts.append(("esc goes back; change it in what-if (e).", "dim"))
        else:
            texts = [(exploration.progress or "waiting for the first answer", "text")]
            texts.append(("There are no formulas for this model: the trace answers soon.", "dim"))
        lines = [line([], width, ink("text"))]
        for text, tone in texts:
            parts = wrap(printable(text), max(width - 4, 20))
            lines += [line([(f"  {part}", ink(tone))], width, ink("text")) for part in parts]
        self.paint(lines)


def _told(workload: Workload) -> str:
    words = [each_words(workload), workload.precision]
    if workload.training:
        words.append(workload.optimizer)
        if workload.checkpointing != "none":
            words.append(f"{workload.checkpointing} checkpointing")
        if workload.lora is not None:
            words.append(f"LoRA {workload.lora.rank}")
        if workload.grad_accumulation > 1:
            words.append(f"{workload.grad_accumulation} accumulated")
    else:
        words.append("inference")
    if workload.parallel.gpus > 1:
        words.append(f"{workload.parallel.gpus} GPUs")
    return " · ".join(words)
