"""Objects that are written once and then named by a number, in a table that stays bounded.

Writer and reader drop the least recently used entries by the same rule, so that whatever the one
names the other still has. What some snapshots in a row have not named, the writer drops as well and
gives its number to the next: a reader keeps one table at every place it may have to go back to.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final

from ...errors import FileUnreadable

NEW: Final = "@new"
SAME: Final = "@same"
MAX_ENTRIES: Final = 512
MAX_CHARACTERS: Final = 8 << 20
"""Of all entries together, as JSON."""
KEPT_SNAPSHOTS: Final = 8
"""An object that was named in none of the last so many is written anew."""
MAX_ENTRY_CHARACTERS: Final = 2 << 20
"""Larger objects are written in full each time."""


def compact(value: Any) -> str:
    """JSON without spaces.

    Raises:
        ValueError: a number in it is not finite, which JSON cannot say.
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


class _Table:
    """Numbers with their sizes in characters, the least recently used first."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[int, int] = OrderedDict()
        self._characters = 0

    def __iter__(self) -> Iterator[int]:
        return iter(self._sizes)

    def use(self, number: int) -> None:
        self._sizes.move_to_end(number)

    def drop(self, number: int) -> None:
        self._characters -= self._sizes.pop(number)

    def add(self, number: int, size: int) -> None:
        self._sizes[number] = size
        self._characters += size

    def in_the_way(self, size: int) -> int | None:
        """The number to drop before one of that size is added, None for none."""
        full = len(self._sizes) >= MAX_ENTRIES or self._characters + size > MAX_CHARACTERS
        return next(iter(self)) if full else None

    def copy(self) -> _Table:
        other = _Table()
        other._sizes, other._characters = self._sizes.copy(), self._characters
        return other


class WrittenObjects:
    """What a writer has numbered."""

    def __init__(self) -> None:
        self._table = _Table()
        self._numbers: dict[str, int] = {}
        self._texts: dict[int, str] = {}
        self._free = list(range(MAX_ENTRIES - 1, -1, -1))
        self._snapshot = 0
        self._named_in: dict[int, int] = {}
        """The last snapshot that each number was in, counted from 1."""
        self._identities: dict[int, tuple[Any, str]] = {}
        """(value, text) by id: most values are the very same object as in the last snapshot."""

    def begin_snapshot(self) -> None:
        """Forget what was not named of late."""
        self._snapshot += 1
        unused = [n for n in self._table if self._named_in[n] < self._snapshot - KEPT_SNAPSHOTS]
        for number in unused:
            self._drop(number)
        if unused:
            identities = self._identities.items()
            self._identities = {i: held for i, held in identities if held[1] in self._numbers}

    def known(self, value: Any) -> dict[str, Any] | None:
        """How to name a value that was written before, None for another."""
        entry = self._identities.get(id(value))
        if entry is None or entry[0] is not value or entry[1] not in self._numbers:
            return None
        return self._name(entry[1])

    def written(self, value: Any, made: dict[str, Any]) -> dict[str, Any]:
        """What to write for a value that is ``made`` of these fields.

        Raises:
            ValueError: a number in it is not finite.
        """
        text = compact(made)
        if len(text) > MAX_ENTRY_CHARACTERS:
            return made
        if len(self._identities) >= MAX_ENTRIES:
            self._identities.clear()
        self._identities[id(value)] = (value, text)
        if text in self._numbers:
            return self._name(text)
        while (oldest := self._table.in_the_way(len(text))) is not None:
            self._drop(oldest)
        number = self._free.pop()
        self._table.add(number, len(text))
        self._numbers[text], self._texts[number] = number, text
        self._named_in[number] = self._snapshot
        return {NEW: number, **made}

    def _name(self, text: str) -> dict[str, Any]:
        number = self._numbers[text]
        self._table.use(number)
        self._named_in[number] = self._snapshot
        return {SAME: number}

    def _drop(self, number: int) -> None:
        self._table.drop(number)
        del self._numbers[self._texts.pop(number)], self._named_in[number]
        self._free.append(number)


class ReadObjects:
    """What a reader was given numbers for."""

    def __init__(self) -> None:
        self._table = _Table()
        self._values: dict[int, Any] = {}

    def named(self, number: Any) -> Any:
        """The object of a number.

        Raises:
            FileUnreadable: there is none.
        """
        if not isinstance(number, int) or number not in self._values:
            raise FileUnreadable("a number that names nothing")
        self._table.use(number)
        return self._values[number]

    def add(self, number: Any, made: dict[str, Any], value: Any) -> None:
        """Keep a value that was ``made`` of these fields.

        Raises:
            FileUnreadable: the number or the size is not allowed.
        """
        try:
            size = len(compact(made))
        except (ValueError, RecursionError):  # in a field that is ignored
            raise FileUnreadable("an object that is no JSON") from None
        if isinstance(number, bool) or not isinstance(number, int):
            raise FileUnreadable("a number that is none")
        if not 0 <= number < MAX_ENTRIES or size > MAX_ENTRY_CHARACTERS:
            raise FileUnreadable("an object that must not have a number")
        if number in self._values:
            self._drop(number)
        while (oldest := self._table.in_the_way(size)) is not None:
            self._drop(oldest)
        self._table.add(number, size)
        self._values[number] = value

    def copy(self) -> ReadObjects:
        """As it is now, whatever is read afterwards."""
        other = ReadObjects()
        other._table, other._values = self._table.copy(), self._values.copy()
        return other

    def _drop(self, number: int) -> None:
        self._table.drop(number)
        del self._values[number]
