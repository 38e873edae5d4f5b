"""The moments of a training that hooks tell of."""

from __future__ import annotations

FORWARD_BEGINS = "forward begins"
FORWARD_ENDS = "forward ends"
STEP_BEGINS = "step begins"
STEP_ENDS = "step ends"
ALL = (FORWARD_BEGINS, FORWARD_ENDS, STEP_BEGINS, STEP_ENDS)

Boundary = tuple[str, int]
"""What happened, and to which object (its id)."""
NOWHERE: Boundary = ("", 0)
"""Before the first."""
