"""The fields of a message, one checked value each: a socket is untrusted.

Every function raises ``ProtocolError`` for a value that the protocol does not allow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import ProtocolError

MAX_TEXT = 300
MAX_SHAPES = 16
"""So many tensors at most, of so many dimensions."""
MAX_DEPTH = 16
"""Of objects and lists inside one another."""
_MAX_BYTES = 1 << 60
_MAX_NUMBER = 1e15
_MAX_PLAIN = 10**40
"""Some configurations mean "without limit" by 10**30."""
_MAX_TIME_S = 1e11

T = TypeVar("T")


def text(message: dict[str, Any], name: str, limit: int = MAX_TEXT) -> str | None:
    """A string, cut to a length that a screen can show, control characters removed."""
    value = message.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ProtocolError(f"{name} is not a string")
    return "".join(c for c in value[:limit] if c.isprintable())


def integer(message: dict[str, Any], name: str) -> int | None:
    """A non-negative integer."""
    return None if message.get(name) is None else natural(message[name], name)


def number(message: dict[str, Any], name: str) -> float | None:
    """A number of a size that a recording can hold too."""
    value = message.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ProtocolError(f"{name} is not a number")
    if not -_MAX_NUMBER <= value <= _MAX_NUMBER:  # nor is NaN
        raise ProtocolError(f"{name} is not a number within bounds")
    return float(value)


def flag(message: dict[str, Any], name: str) -> bool | None:
    """True or false."""
    value = message.get(name)
    if value is not None and not isinstance(value, bool):
        raise ProtocolError(f"{name} is neither true nor false")
    return value


def texts(message: dict[str, Any], name: str, limit: int) -> tuple[str, ...]:
    """A list of strings."""
    values = list_of(message, name, limit)
    return tuple(text({name: value}, name) or "" for value in values)


def counts(message: dict[str, Any], name: str, limit: int) -> dict[str, int]:
    """Non-negative integers by name, empty where they are left out."""
    found = object_of(message.get(name, {}), name)
    return {
        text({name: key}, name) or "?": natural(value, name)
        for key, value in list(found.items())[:limit]
    }


def plain(value: Any, name: str, depth: int = MAX_DEPTH) -> Any:
    """Any JSON, as somebody's configuration: texts as ``text`` gives them, numbers bounded."""
    if depth == 0:
        raise ProtocolError(f"{name} is nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        return {
            text({name: key}, name) or "": plain(item, name, depth - 1)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [plain(item, name, depth - 1) for item in value]
    if isinstance(value, str):
        return text({name: value}, name)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ProtocolError(f"{name} has a number that is not finite")
        return value
    if isinstance(value, int) and abs(value) > _MAX_PLAIN:
        raise ProtocolError(f"{name} has a number of too many digits")
    return value


def shapes(message: dict[str, Any], name: str) -> tuple[tuple[int, ...], ...]:
    """A list of shapes of tensors, empty where it is left out."""
    values = list_of(message, name, MAX_SHAPES)
    if any(not isinstance(value, list) or len(value) > MAX_SHAPES for value in values):
        raise ProtocolError(f"{name} is not a list of shapes")
    return tuple(tuple(natural(size, name) for size in value) for value in values)


def moment(message: dict[str, Any]) -> float | None:
    """A time (seconds since the epoch) that a calendar can show."""
    at = number(message, "at")
    if at is not None and not 0 <= at < _MAX_TIME_S:
        raise ProtocolError("at is not a time")
    return at


def natural(value: Any, name: str) -> int:
    """An integer that may count bytes or elements."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_BYTES:
        raise ProtocolError(f"{name} is not a natural number")
    return value


def required(message: dict[str, Any], name: str) -> int:
    """A non-negative integer that must be there."""
    return natural(message.get(name), name)


def object_of(value: Any, name: str) -> dict[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        raise ProtocolError(f"{name} is not an object")
    return value


def list_of(message: dict[str, Any], name: str, limit: int) -> list[Any]:
    """A list of at most so many, empty where it is left out."""
    value = message.get(name, [])
    if not isinstance(value, list) or len(value) > limit:
        raise ProtocolError(f"{name} is not a list of at most {limit}")
    return value


def tuple_of(
    message: dict[str, Any], name: str, read: Callable[[dict[str, Any]], T], limit: int
) -> tuple[T, ...]:
    """A list of objects, each read."""
    return tuple(read(object_of(item, name)) for item in list_of(message, name, limit))


def row_of(value: Any, name: str, length: int) -> list[Any]:
    """The first so many values of a list that has them."""
    # A newer probe's row may be longer, as its objects may have more fields.
    if not isinstance(value, list) or len(value) < length:
        raise ProtocolError(f"{name} has a row that is not a list of {length}")
    return value[:length]


def time_of(message: dict[str, Any]) -> float:
    """A time that must be there."""
    at = moment(message)
    if at is None:
        raise ProtocolError("at is missing")
    return at
