"""A training on a GPU as the caching allocator would count it, sampled as the viewer does."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from vramtop.core.history import History
from vramtop.core.memory import Breakdown
from vramtop.core.model import HistoryPoint

GIB = 1 << 30
TOTAL_BYTES = 80 * GIB
CONTEXT_BYTES = GIB // 2
SEGMENT_BYTES = 64 << 20


@dataclass
class Training:
    """Steps of one size after another; every rise and fall of a step takes place in it.

    The functions take the time in seconds; ``activation`` and ``kept`` answer in bytes.
    """

    seed: int
    step_s: float = 0.3
    jitter: float = 0.02
    base_bytes: int = 12 * GIB
    activation: Callable[[float], float] = lambda at: 6 * GIB
    kept: Callable[[float], float] = lambda at: 0
    """What earlier steps have left."""
    fragments: Callable[[float], float] = lambda at: 0.2 * GIB
    pauses: list[tuple[float, float]] = field(default_factory=list)
    """(from, to): no steps, as in a validation; the activations are a third then."""

    def history(self, seconds: float, period_s: float = 1.0) -> list[HistoryPoint]:
        """The samples of a viewer with that period, as ``History`` keeps them."""
        chance = random.Random(self.seed)
        history = History()
        ends, step, reserved = [0.0], 0, 0.0
        due = chance.random() * period_s
        while due < seconds:
            while ends[-1] <= due:
                now = ends[-1]
                length = self.step_s * max(0.2, 1 + self.jitter * chance.gauss(0, 1))
                ends.append(now + length)
                step += not self._pauses(now)
                top = self.base_bytes + self.kept(now) + self._swing(now) + self.fragments(now)
                # Segments are large, and stay.
                reserved = max(reserved, math.ceil(top / SEGMENT_BYTES) * SEGMENT_BYTES)
            phase = (due - ends[-2]) / (ends[-1] - ends[-2])
            rise = phase / 0.35 if phase < 0.35 else max(0.0, (0.85 - phase) / 0.5)
            swing = self._swing(ends[-2]) * rise
            held = self.base_bytes + self.kept(ends[-2]) + swing
            fragmentation = min(reserved - held, self.fragments(ends[-2]))
            breakdown = self._breakdown(held, swing, reserved - held, fragmentation)
            history = history.append(HistoryPoint(due, step, breakdown))
            due += period_s
        return list(history)

    def _pauses(self, at: float) -> bool:
        return any(start <= at < end for start, end in self.pauses)

    def _swing(self, at: float) -> float:
        return self.activation(at) / (3 if self._pauses(at) else 1)

    def _breakdown(self, held: float, swing: float, free: float, fragmentation: float) -> Breakdown:
        third = self.base_bytes // 3
        return Breakdown(
            parameter_bytes=third,
            gradient_bytes=third,
            optimizer_state_bytes=self.base_bytes - 2 * third,
            activation_bytes=int(swing),
            input_bytes=0,
            temporary_bytes=0,
            autograd_detail_bytes=0,
            unknown_bytes=int(held) - self.base_bytes - int(swing),
            cached_bytes=int(free - fragmentation),
            fragmentation_bytes=int(fragmentation),
            outside_allocator_bytes=CONTEXT_BYTES,
        )


def free_bytes(point: HistoryPoint) -> int:
    """What is left of the GPU at that point."""
    b = point.breakdown
    reserved = b.tensor_bytes + (b.cached_bytes or 0) + (b.fragmentation_bytes or 0)
    return TOTAL_BYTES - CONTEXT_BYTES - reserved
