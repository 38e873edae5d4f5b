"""Help: every key from the table of actions, and what the colours mean."""

from __future__ import annotations

from itertools import groupby

from textual.strip import Strip

from ...core.devices import SEGMENT_LABELS
from ..actions import Action
from ..frame import Frame
from ..paint import Piece, fit, line, swatch
from .overlay import OverlayScreen

MEANINGS = {
    "parameter": "weights and buffers of the models",
    "gradient": "gradients kept in .grad",
    "optimizer_state": "what the optimizer keeps for each parameter",
    "activation": "made by a forward and kept, as for its backward",
    "input": "batches and their targets",
    "temporary": "made and freed within one phase",
    "autograd_detail": "made by a backward and no gradient",
    "unknown": "tensors of which none of the above is known",
    "cached": "whole free segments of PyTorch's allocator",
    "fragmentation": "free pieces of segments that are in use",
    "outside_allocator": "context, libraries, other allocations of the process",
    "other_processes": "processes without a probe",
    "driver_reserved": "kept back by the driver",
    "unattributed": "used, but by no process that can be seen",
    "free": "nobody's",
}


class HelpScreen(OverlayScreen):
    """Keys and colours."""

    TITLE_TEXT = "Help"

    def __init__(self, frame: Frame, actions: tuple[Action, ...]) -> None:
        super().__init__(frame)
        self._actions = sorted(actions, key=lambda action: _GROUPS.index(action.group))

    def lines(self, frame: Frame, width: int) -> list[Strip]:
        """Keys by group in two columns where there is room, then the colours."""
        ink = frame.ink
        blocks: list[list[list[Piece]]] = []
        column = (width - 2) // 2 if width >= 76 else width
        for group, actions in groupby(self._actions, key=lambda action: action.group):
            block: list[list[Piece]] = [[(fit(group, column), ink("accent", bold=True))]]
            for action in actions:
                said = action.help if action.group == "Moving" else f"{action.label}: {action.help}"
                keys = fit(action.shown_keys or "in ^p", 10)
                block.append([(keys, ink("warn")), (fit(said, column - 10), ink("text"))])
            block.append([(" " * column, ink("text"))])
            blocks.append(block)
        if width >= 76:
            lefts = [row for block in blocks[::2] for row in block]
            rights = [row for block in blocks[1::2] for row in block]
            blank: list[Piece] = [(" " * column, ink("text"))]
            rows = [
                [*(lefts[i] if i < len(lefts) else blank), *(rights[i] if i < len(rights) else [])]
                for i in range(max(len(lefts), len(rights)))
            ]
        else:
            rows = [row for block in blocks for row in block]
        lines = [line(row, width, ink("text")) for row in rows]
        lines.append(line([("Colours", ink("accent", bold=True))], width, ink("text")))
        for key, label in SEGMENT_LABELS.items():
            pieces = [
                swatch(key, ink),
                (fit(f" {label}", 20), ink("text")),
                (MEANINGS[key], ink("dim")),
            ]
            lines.append(line(pieces, width, ink("text")))
        return lines


_GROUPS = ("General", "Replay", "Processes", "Process", "Moving", "Panes", "What if")
