"""What the batch explorer's widgets are given to show."""

from __future__ import annotations

from dataclasses import dataclass

from ..estimator.explored import Explored, Place
from ..estimator.result import Footprint
from ..estimator.sweep import Sweep
from .exploration import Exploration
from .scene import Scene
from .theme import Ink


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of the explorer."""

    exploration: Exploration
    explored: Explored
    """Of its estimate."""
    place: Place
    ink: Ink
    scene: Scene | None = None
    """The moment of the animation that is shown; None: there is none."""
    swapped: bool = False
    """The map's axes: sequences to the right."""

    @property
    def sweep(self) -> Sweep:
        """The curve at the cursor's sequence."""
        return self.explored.at(self.place)

    @property
    def batch(self) -> int:
        """The batch that is shown: the animation's, else the cursor's."""
        return self.scene.batch if self.scene else self.place.batch

    @property
    def footprint(self) -> Footprint:
        """Of that batch."""
        return self.scene.footprint if self.scene else self.explored.footprint(self.place)
