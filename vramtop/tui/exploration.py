"""What the what-if pane and the batch explorer show: one question with its newest answer."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.observed import ObservedPeak
from ..estimator.result import Estimate, Predictor
from ..estimator.workload import Workload


@dataclass(frozen=True, slots=True)
class Exploration:
    """A workload and what is known of it."""

    workload: Workload
    estimate: Estimate | None
    """The newest answer; None where there is none yet, or the workload is impossible."""
    predictor: Predictor | None
    """Footprints over the batch, by the same method as the estimate."""
    is_exact: bool = False
    """The trace has answered; until then the closed form."""
    progress: str = ""
    """What the trace is doing; "" when it is done or not asked."""
    problem: str = ""
    """Why the workload is impossible, or has no answer; one line."""
    untraced: str = ""
    """Why only formulas answer; "" where the trace does or may yet."""
    notice: str = ""
    """Where the workload comes from, when that needs a word."""
    others_bytes: int = 0
    """What other processes hold on the device; already taken off ``workload.device``."""
    observed: tuple[ObservedPeak, ...] = ()
    """Peaks of the live process that it began from."""
    outside_bytes: int | None = None
    """What that process has outside its allocator; None: as is usual for the device."""
    live: str = ""
    """Which process: "pid 1234 cuda:0"; "" without one."""

    @property
    def is_fitted(self) -> bool:
        """Whether only a line over the batch is known, so that nothing else can be changed."""
        return self.estimate is not None and self.estimate.footprint.method == "fitted"
