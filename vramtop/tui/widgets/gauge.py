"""The device as one bar that fills: what the process holds at this moment, and what is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.cells import cell_len

from ...core.devices import SEGMENT_LABELS
from ...core.units import format_bytes
from ...draw.tones import COMPONENT_TONES
from ..paint import Piece, bar, fit, line
from ..picture import Picture
from ..scene import Scene
from .picture_canvas import PictureCanvas

_LABEL: Final = 6
_TEXT: Final = 34


class Gauge(PictureCanvas):
    """One line."""

    def draw(self, picture: Picture) -> None:
        """Paint it."""
        ink, width, sweep = picture.ink, self.size.width, picture.sweep
        scene, footprint = picture.scene, picture.footprint
        parts = held_parts(scene, footprint.components)
        held = sum(parts.values())
        usable = sweep.usable_bytes
        text, tone = format_bytes(int(held)), "text"
        if usable is not None:
            text += f" / {format_bytes(usable)}"
            if held > usable:
                text, tone = f"{text}  × too much", "error"
        over = picture.explored.fall(picture.place.sequence) if scene else None
        if scene is not None and over is not None and scene.act in ("flash", "fall"):
            text = f"+{format_bytes(over.requested_bytes)} does not fit"
            tone = "error"
        whole = max(usable or held, held)
        parts["free"] = whole - held
        room = width - _LABEL - _TEXT
        name = "GPU" if sweep.workload.backend == "cuda" else "RAM"
        lit = scene is not None and scene.request_is_lit
        pieces: list[Piece] = [(fit(f" {name}", _LABEL - 1), ink("dim")), ("▕", ink("rule"))]
        pieces += bar(list(parts.items()), max(room, 4), ink)
        pieces.append(("▏", ink("error" if lit else "rule")))
        text = f" {text} "
        style = ink("background", "error", bold=True) if lit else ink(tone, bold=tone == "error")
        pieces.append((fit(text, min(cell_len(text), _TEXT - 1)), style))
        self.paint([line(pieces, width, ink("text"))])


def held_parts(scene: Scene | None, components: Mapping[str, int]) -> dict[str, float]:
    """What is held, by segment of a device's bar; at a moment of the animation by what is sure.

    Parameters and states are always there; which of the rest are gradients and which activations
    a moment does not tell.
    """
    parts = dict.fromkeys(SEGMENT_LABELS, 0.0)
    if scene is None or scene.act == "rest":
        for name, size in components.items():
            parts[COMPONENT_TONES.get(name, name)] += size
        return parts
    left = float(scene.allocated_bytes)
    for key in ("parameter", "optimizer_state"):
        parts[key] = min(float(components[key]), left)
        left -= parts[key]
    parts["activation"] = left
    parts["cached"] = float(max(scene.reserved_bytes - scene.allocated_bytes, 0))
    parts["outside_allocator"] = float(components["context"])
    return parts
