"""The decision tree made exact: which ways of running a training fit, and what each costs.

``search`` asks a predictor for the memory of every way, computes what each recomputes and sends,
and keeps the few of the Pareto front; ``recheck`` asks another predictor about those.
"""

from __future__ import annotations

from .closely import recheck
from .communication import Traffic
from .model import Numbers, numbers_of
from .options import options
from .search import search
from .selection import strengths
from .values import Arithmetic, Configuration, Plan, Wish

__all__ = [
    "Arithmetic",
    "Configuration",
    "Numbers",
    "Plan",
    "Traffic",
    "Wish",
    "numbers_of",
    "options",
    "recheck",
    "search",
    "strengths",
]
