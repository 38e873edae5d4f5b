"""Domain values to and from JSON, by their dataclasses: a field added there is recorded at once.

What is read is untrusted: every value is checked against its type, numbers against what a clock
or a memory can hold.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Literal, Union, cast

from ...core.memory import Detail, Segment, SegmentMap
from ...core.model import ModelInfo, OptimizerInfo, Snapshot
from ...errors import FileUnreadable
from .shared import NEW, SAME, ReadObjects, WrittenObjects

SHARED: Final = (Detail, SegmentMap, ModelInfo, OptimizerInfo)
"""Written once, then named; none of them holds another."""
MAX_TEXT: Final = 1 << 16
MAX_ITEMS: Final = 1 << 16
_MAX_INTEGER: Final = 1 << 62
_MAX_NUMBER: Final = 1e15
_MAX_TIME_S: Final = 1e11
_MAX_DEPTH: Final = 32
"""Of what a library has put into a dictionary."""

Encode = Callable[[Any, WrittenObjects], Any]
Decode = Callable[[Any, ReadObjects], Any]


def encode(snapshot: Snapshot, written: WrittenObjects) -> dict[str, Any]:
    """The fields of a snapshot, to be written as JSON.

    Raises:
        ValueError: a number in it is not finite.
    """
    written.begin_snapshot()
    return cast("dict[str, Any]", _encoder(Snapshot)(snapshot, written))


def decode(value: Any, read: ReadObjects) -> Snapshot:
    """The snapshot that was written.

    Raises:
        FileUnreadable: a value is not one of its type, or out of bounds.
    """
    return cast("Snapshot", _decoder(Snapshot)(value, read))


@lru_cache(maxsize=256)
def _encoder(kind: Any) -> Encode:
    """What makes JSON values of a type's values."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        encode_fields = _fields_encoder(cast("type", kind))
        return _named(encode_fields) if kind in SHARED else encode_fields
    if origin in {Union, types.UnionType}:
        inner = _encoder(_without_none(parts))
        return lambda value, written: None if value is None else inner(value, written)
    if origin is tuple and _is_plain(parts[0]):
        return lambda value, _: list(value)
    if origin is tuple:
        item = _encoder(parts[0])
        return lambda value, written: [item(each, written) for each in value]
    if origin is dict and not _is_plain(parts[1]) and parts[1] is not Any:
        member = _encoder(parts[1])
        return lambda value, written: {key: member(each, written) for key, each in value.items()}
    if kind is Any or origin is dict:
        return lambda value, _: _finite(value)
    return lambda value, _: value


def _fields_encoder(kind: type) -> Encode:
    hints = typing.get_type_hints(kind)
    plan = [
        (field.name, _default(field), None if _is_plain(hint) else _encoder(hint))
        for field in dataclasses.fields(kind)
        for hint in [hints[field.name]]
    ]

    def encode_fields(value: Any, written: WrittenObjects) -> Any:
        made = {}
        for name, default, encoder in plan:
            held = getattr(value, name)
            if held is default or held == default:
                continue
            made[name] = held if encoder is None else encoder(held, written)
        return made

    return encode_fields


def _named(encode_fields: Encode) -> Encode:
    def encode_once(value: Any, written: WrittenObjects) -> Any:
        known = written.known(value)
        return known or written.written(value, encode_fields(value, written))

    return encode_once


def _finite(value: Any) -> Any:
    """What a library's dictionary holds, infinities and the like left unknown."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


@lru_cache(maxsize=256)
def _decoder(kind: Any) -> Decode:
    """What checks JSON values and makes a type's values of them."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        decode_fields = _fields_decoder(cast("type", kind))
        return _looked_up(decode_fields) if kind in SHARED else decode_fields
    if origin in {Union, types.UnionType}:
        inner = _decoder(_without_none(parts))
        return lambda value, read: None if value is None else inner(value, read)
    if origin is Literal:
        return _one_of(frozenset(parts))
    if origin is tuple:
        return _items_decoder(_decoder(parts[0]))
    if origin is dict:
        return _members_decoder(_decoder(parts[1]))
    if kind is Any:
        return lambda value, _: _bounded(value, _MAX_DEPTH)
    return _SCALARS[kind]


def _fields_decoder(kind: type) -> Decode:
    hints = typing.get_type_hints(kind)
    plan = [
        (field.name, _default(field), _decoder_of(field.name, hints[field.name]))
        for field in dataclasses.fields(kind)
    ]
    name_of_kind = kind.__name__

    def decode_fields(value: Any, read: ReadObjects) -> Any:
        if not isinstance(value, dict):
            raise FileUnreadable(f"a {name_of_kind} that is no object")
        made = {}
        for name, default, decoder in plan:
            if name in value:
                made[name] = decoder(value[name], read)
            elif default is dataclasses.MISSING:
                raise FileUnreadable(f"a {name_of_kind} without {name}")
        return kind(**made)

    return _whole_segment(decode_fields) if kind is Segment else decode_fields


def _decoder_of(name: str, hint: Any) -> Decode:
    """By the type, and by what a name says of its unit."""
    decoder = _decoder(hint)
    if name == "at" or name.endswith("_at"):
        return _within(decoder, 0, _MAX_TIME_S, name)
    if name.endswith("_bytes"):
        return _within(decoder, 0, _MAX_INTEGER, name)
    return decoder


def _within(decoder: Decode, low: float, high: float, name: str) -> Decode:
    def decode_bounded(value: Any, read: ReadObjects) -> Any:
        number = decoder(value, read)
        if number is not None and not low <= number <= high:
            raise FileUnreadable(f"{name} is out of bounds")
        return number

    return decode_bounded


def _whole_segment(decode_fields: Decode) -> Decode:
    def decode_segment(value: Any, read: ReadObjects) -> Any:
        segment: Segment = decode_fields(value, read)
        if sum(block.size_bytes for block in segment.blocks) != segment.total_bytes:
            raise FileUnreadable("the blocks of a segment do not sum to it")
        return segment

    return decode_segment


def _looked_up(decode_fields: Decode) -> Decode:
    def decode_once(value: Any, read: ReadObjects) -> Any:
        if not isinstance(value, dict):
            raise FileUnreadable("an object that is none")
        if SAME in value:
            return read.named(value[SAME])
        number = value.pop(NEW, None)
        decoded = decode_fields(value, read)
        if number is not None:
            read.add(number, value, decoded)
        return decoded

    return decode_once


def _one_of(allowed: frozenset[Any]) -> Decode:
    def decode_word(value: Any, _: ReadObjects) -> Any:
        if not isinstance(value, str) or value not in allowed:
            raise FileUnreadable(f"a word that is none of {', '.join(sorted(allowed))}")
        return value

    return decode_word


def _items_decoder(item: Decode) -> Decode:
    def decode_items(value: Any, read: ReadObjects) -> Any:
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            raise FileUnreadable(f"a list that is none, or longer than {MAX_ITEMS}")
        return tuple([item(each, read) for each in value])

    return decode_items


def _members_decoder(member: Decode) -> Decode:
    def decode_members(value: Any, read: ReadObjects) -> Any:
        if not isinstance(value, dict) or len(value) > MAX_ITEMS:
            raise FileUnreadable(f"an object that is none, or of more than {MAX_ITEMS} members")
        return {_text(key, read): member(each, read) for key, each in value.items()}

    return decode_members


def _text(value: Any, _: ReadObjects) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise FileUnreadable(f"a text that is none, or longer than {MAX_TEXT}")
    return value


def _flag(value: Any, _: ReadObjects) -> bool:
    if not isinstance(value, bool):
        raise FileUnreadable("a flag that is neither true nor false")
    return value


def _integer(value: Any, _: ReadObjects) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MAX_INTEGER:
        raise FileUnreadable("an integer that is none, or out of bounds")
    return value


def _number(value: Any, _: ReadObjects) -> float:
    # Not "abs(value) > limit": of NaN that would be false.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FileUnreadable("a number that is none")
    if not -_MAX_NUMBER <= value <= _MAX_NUMBER:
        raise FileUnreadable("a number that is out of bounds")
    return value


def _bounded(value: Any, depth: int) -> Any:
    """A value of any kind; JSON knows few."""
    if depth <= 0:
        raise FileUnreadable("values nested too deep")
    if isinstance(value, dict):
        return {key: _bounded(each, depth - 1) for key, each in value.items()}
    if isinstance(value, list):
        return [_bounded(each, depth - 1) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise FileUnreadable("a number that is not finite")
    return value


_SCALARS: Final[dict[Any, Decode]] = {str: _text, bool: _flag, int: _integer, float: _number}


def _default(field: dataclasses.Field[Any]) -> Any:
    """A field's default; ``MISSING``, which equals nothing, where it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _without_none(parts: tuple[Any, ...]) -> Any:
    """The type of an optional value."""
    (kind,) = (part for part in parts if part is not types.NoneType)
    return kind


def _is_plain(hint: Any) -> bool:
    """Whether its values are JSON's own."""
    parts = typing.get_args(hint)
    if typing.get_origin(hint) in {Union, types.UnionType}:
        return all(part is types.NoneType or _is_plain(part) for part in parts)
    return hint in _SCALARS or typing.get_origin(hint) is Literal
