"""Python 3.14 and newer take code by themselves: their own interpreter hands it over (PEP 768)."""

from __future__ import annotations

from .target import Target
from .ticket import Ticket


def ask(target: Target, ticket: Ticket) -> None:
    """Have the target's interpreter run the ticket's line when it can."""
    raise NotImplementedError
