"""The small file that tells the code in the target what to do, and where it answers."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ..errors import AttachFailed, AttachRefused
from ..protocol import rendezvous
from .place import Place
from .target import Target

SUFFIX = ".attach"
TAKEN = ".taken"
"""Put on the ticket by the code in the target: from then on it answers."""
ANSWER = ".answer"
SCRIPT = ".py"
_MAX_ANSWER_BYTES = 4096

# Only `__import__` is taken from the user's __main__, where any other name may mean another thing
# (`from torch import *` brings a `compile`), and nothing is left there.
_RUN = "with open(F, 'rb') as f: C = f.read()\nexec(compile(C, F, 'exec'), G)"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the code in the target says of it."""

    python: str | None
    torch: str | None
    error: str | None


class Ticket:
    """Exists while the attach is wanted: code that runs later finds none and does nothing.

    Raises:
        AttachRefused: there is no room for it.
    """

    def __init__(self, target: Target, place: Place) -> None:
        clean_up(place.directory)
        self._is_withdrawn = False
        name = f"{target.pid}-{target.ticks}-{secrets.token_hex(4)}{SUFFIX}"
        self.path = place.directory / name
        seen = f"{place.directory_seen}/{name}"
        self.line = _line(f"{place.package_seen}/inject/entry/attached.py", seen)
        """The Python that the target shall run."""
        self.script_seen = seen + SCRIPT
        """The same as a file, as the target sees it."""
        content = {
            "action": "attach",
            "directory": place.directory_seen,
            "package": place.package_seen,
        }
        _write(self.path, json.dumps(content))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.withdraw()
        # An interpreter that comes too late complains to the user if it finds no script; the one
        # that it finds does nothing, and goes when the process has ended.
        for suffix in (TAKEN, ANSWER) if self._is_withdrawn else (TAKEN, ANSWER, SCRIPT):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def is_taken(self) -> bool:
        """Whether the code in the target is at work."""
        return not self.path.exists()

    def withdraw(self) -> bool:
        """Have the code in the target do nothing from now on; False where it is at work."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        self._is_withdrawn = True
        return True

    def write_script(self) -> None:
        """Put the line into a file, for an interpreter that wants one.

        Raises:
            AttachRefused: there is no room for it.
        """
        _write(Path(f"{self.path}{SCRIPT}"), self.line)

    def answer(self) -> Answer | None:
        """What the target has answered; None while it has not.

        Raises:
            AttachFailed: it is no answer.
        """
        try:
            with open(f"{self.path}{ANSWER}", "rb") as file:  # noqa: PTH123
                data = file.read(_MAX_ANSWER_BYTES + 1)
        except OSError:
            return None
        try:
            said = json.loads(data)
            return Answer(*(_text(said[key]) for key in ("python", "torch", "error")))
        except (ValueError, KeyError, TypeError):
            raise AttachFailed("what the process has answered cannot be read; try again") from None


def clean_up(directory: Path) -> None:
    """Remove what attaches that were killed have left for processes that have ended."""
    for path in directory.glob(f"*{SUFFIX}*"):
        pid, _, rest = path.name.partition("-")
        ticks, _, _ = rest.partition("-")
        if pid.isdigit() and ticks.isdigit():
            try:
                is_left = rendezvous.start_ticks(int(pid)) != int(ticks)
            except (OSError, ValueError, IndexError):
                is_left = not Path(f"/proc/{pid}").exists()
            if is_left:
                path.unlink(missing_ok=True)


def _line(entry: str, ticket: str) -> str:
    names = {"__name__": "_vramtop_entry", "__file__": entry, "TICKET": ticket}
    run, inside = ascii(_RUN), ascii({"F": entry, "G": names})
    return f'try:\n __import__("builtins").exec({run}, {inside})\nexcept:\n pass\n'


def _write(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w") as file:  # noqa: PTH123
            file.write(text)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise AttachRefused(
            f"nothing can be written into {path.parent}: {error.strerror}; make room there"
        ) from None


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value[:300] if value else None
    raise TypeError
