"""Domain values to JSON and back; what is read is untrusted."""

import dataclasses
import json
import random
import types
import typing
from dataclasses import replace
from itertools import count, islice

import pytest

from vramtop.core import failure, memory, model
from vramtop.core.memory import Detail, Phase
from vramtop.core.model import Probe, ProbeDevice, Snapshot
from vramtop.errors import FileUnreadable
from vramtop.sources.fake import SCENARIOS, snapshots
from vramtop.sources.recording.codec import SHARED, decode, encode
from vramtop.sources.recording.shared import (
    KEPT_SNAPSHOTS,
    MAX_CHARACTERS,
    MAX_ENTRIES,
    ReadObjects,
    WrittenObjects,
    compact,
)


def filled(kind, numbers, seen, times=2):
    """A value of a type in which nothing has its default; no two numbers are alike."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        seen.add(kind)
        hints = typing.get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind)]
        made = kind(**{name: filled(hints[name], numbers, seen, times) for name in names})
        if kind is memory.Segment:
            made = replace(made, total_bytes=sum(block.size_bytes for block in made.blocks))
        return made
    if origin in (typing.Union, types.UnionType):
        return filled(
            next(part for part in parts if part is not types.NoneType), numbers, seen, times
        )
    if origin is typing.Literal:
        return parts[-1]
    if origin is tuple:
        return tuple(filled(parts[0], numbers, seen, times) for _ in range(times))
    if origin is dict:
        return {
            f"key {next(numbers)}": filled(parts[1], numbers, seen, times) for _ in range(times)
        }
    if kind is typing.Any:
        return {"deep": [1, 2.5, "x", None, {"deeper": True}]}
    if kind is bool:
        return True
    return {int: int, float: lambda n: n + 0.25, str: "text {}".format}[kind](next(numbers))


def through(given, written=None, read=None):
    """What is left of a snapshot after the way through a file."""
    line = compact(encode(given, written or WrittenObjects()))
    return decode(json.loads(line), read or ReadObjects())


def test_every_field_of_every_domain_value_comes_back():
    seen = set()
    snapshot = filled(Snapshot, count(2), seen)
    assert through(snapshot) == snapshot
    known = {
        kind
        for module in (model, memory, failure)
        for kind in vars(module).values()
        if dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__
    }
    assert seen == known - {model.PostMortem}  # of a file of its own


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_made_up_trainings_come_back(scenario):
    written, read = WrittenObjects(), ReadObjects()
    for snapshot in islice(snapshots(scenario), 8):
        assert through(snapshot, written, read) == snapshot


def test_a_real_training_comes_back(recorded):
    assert any(process.probe.detail == "ready" for s in recorded for process in s.processes)
    written, read = WrittenObjects(), ReadObjects()
    for snapshot in recorded:
        assert through(snapshot, written, read) == snapshot


def test_defaults_are_left_out_and_taken_when_they_are_missing():
    value = encode(filled(Snapshot, count(2), set()), WrittenObjects())
    bare = {"taken_at": 1.0, "host": {"hostname": "h", "ram_total_bytes": None}}
    bare["host"]["ram_used_bytes"] = None
    assert encode(decode({**bare, "devices": [], "processes": []}, ReadObjects()), WrittenObjects())
    assert set(value) == {field.name for field in dataclasses.fields(Snapshot)}
    small = encode(Snapshot(1.0, model.Host("h", None, None), (), ()), WrittenObjects())
    assert small == {**bare, "devices": [], "processes": []}


def test_fields_of_a_newer_vramtop_are_ignored():
    snapshot = next(snapshots("training"))
    value = json.loads(compact(encode(snapshot, WrittenObjects())))

    def with_more(value):
        if isinstance(value, dict):
            return {key: with_more(each) for key, each in value.items()} | {"invented": [1]}
        return [with_more(each) for each in value] if isinstance(value, list) else value

    # A history is by device, where another name is another device.
    assert value["processes"][0]["probe"].pop("history")
    plain = decode(json.loads(json.dumps(value)), ReadObjects())
    for process in (more := with_more(value))["processes"]:
        process.get("probe", {}).pop("defaults", None)
        for names in process.get("probe", {}).get("models", []):
            names["parameters_by_dtype"].pop("invented")
            (names.get("trainable_by_dtype") or {}).pop("invented", None)
            names["hf_config"].pop("invented")
        for names in process.get("probe", {}).get("optimizers", []):
            names["defaults"].pop("invented")
            (names.get("state_by_dtype") or {}).pop("invented", None)
    assert decode(more, ReadObjects()) == plain


def leaves(value, path=()):
    """Paths of all values within a value."""
    yield path
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(each, (*path, key))


STRANGE = (float("nan"), float("inf"), -1, 10**40, 1e300, "x" * 70_000, [], {}, [[[]]], True, None)


@pytest.mark.parametrize("strange", STRANGE, ids=lambda value: repr(value)[:12])
def test_a_strange_value_anywhere_is_refused_or_is_harmless(strange):
    text = compact(encode(filled(Snapshot, count(2), set(), times=1), WrittenObjects()))
    refused = 0
    for path in [*leaves(json.loads(text))][1:]:
        value = json.loads(text)
        place = value
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = strange
        try:
            compact(encode(decode(value, ReadObjects()), WrittenObjects()))
        except FileUnreadable:
            refused += 1
    assert refused > 20


def test_what_a_library_has_put_into_a_dictionary_is_recorded_as_far_as_json_can():
    snapshot = filled(Snapshot, count(2), set())
    (first, *others) = snapshot.processes
    strange = {"eps": float("nan"), "betas": (0.9, float("inf")), 3: "three"}
    optimizers = (replace(first.probe.optimizers[0], defaults=strange),)
    first = replace(first, probe=replace(first.probe, optimizers=optimizers))
    back = through(replace(snapshot, processes=(first, *others)))
    found = back.processes[0].probe.optimizers[0].defaults
    assert found == {"eps": None, "betas": [0.9, None], "3": "three"}


def with_detail(*details):
    """One snapshot; of each detail a process."""
    probes = [
        Probe("streaming", devices=(ProbeDevice("cpu", None, None, None, detail=detail),))
        for detail in details
    ]
    processes = tuple(model.Process(pid, 1.0, probe=probe) for pid, probe in enumerate(probes, 1))
    return Snapshot(1.0, model.Host("h", None, None), (), processes)


def detail_of(step, size=1):
    return Detail(1.0, step, (Phase("forward", 1, 2, 3),), None, notes=("x" * size,))


def test_what_seldom_changes_is_written_once():
    written, read = WrittenObjects(), ReadObjects()
    lengths = []
    for step in (1, 1, 1, 2, 1):
        snapshot = with_detail(detail_of(step, size=5000))  # equal, not the same
        lengths.append(len(compact(encode(snapshot, written))))
    assert [length > 5000 for length in lengths] == [True, False, False, True, False]
    detail = detail_of(7, size=5000)
    assert through(with_detail(detail), written, read) == with_detail(detail)
    assert len(compact(encode(with_detail(detail), written))) < 500


@pytest.mark.parametrize("size", [10, 60_000])
def test_the_table_stays_bounded_and_whatever_is_named_is_there(size):
    written, read = WrittenObjects(), ReadObjects()
    rng = random.Random(size)
    for turn in range(14):
        steps = [50 * turn + n if n % 3 else rng.randrange(50 * turn + 1) for n in range(100)]
        snapshot = with_detail(*(detail_of(step, size) for step in steps))
        assert through(snapshot, written, read) == snapshot
        for table in (written._table, read._table):
            assert len(table._sizes) <= MAX_ENTRIES
            assert table._characters <= MAX_CHARACTERS
    if size == 10:
        assert len(read._table._sizes) > MAX_ENTRIES / 2  # it was put to the test


def test_what_is_named_no_more_is_kept_by_neither_side():
    written, read = WrittenObjects(), ReadObjects()
    lasting = detail_of(0)
    for turn in range(1, 100):
        snapshot = with_detail(lasting, detail_of(turn))
        assert through(snapshot, written, read) == snapshot
    assert len(written._table._sizes) == len(written._identities) <= KEPT_SNAPSHOTS + 3
    assert len(read._table._sizes) <= KEPT_SNAPSHOTS + 3
    known = len(compact(encode(with_detail(lasting), written)))
    assert known < len(compact(encode(with_detail(lasting), WrittenObjects())))


def test_what_is_too_large_for_the_table_is_written_in_full():
    written, read = WrittenObjects(), ReadObjects()
    large = with_detail(replace(detail_of(1), notes=("x" * 60_000,) * 40))
    for _ in range(2):
        assert through(large, written, read) == large
    assert read._table._characters == 0


def test_shared_objects_hold_no_other_shared_object():
    def holds(kind):
        for hint in typing.get_type_hints(kind).values():
            stack = [hint]
            while stack:
                part = stack.pop()
                stack += typing.get_args(part)
                if part in SHARED or (dataclasses.is_dataclass(part) and holds(part)):
                    return True
        return False

    assert not any(holds(kind) for kind in SHARED)


@pytest.mark.parametrize("number", [-1, 512, 1.0, True, "1", None, [1], 10**30])
def test_numbers_of_shared_objects_are_checked(number):
    for key in ("@same", "@new"):
        value = json.loads(compact(encode(with_detail(detail_of(1)), WrittenObjects())))
        place = value["processes"][0]["probe"]["devices"][0]
        place["detail"].pop("@new")
        place["detail"] = (
            {"@same": number} if key == "@same" else {"@new": number, **place["detail"]}
        )
        if number is None and key == "@new":
            assert decode(value, ReadObjects()) == with_detail(detail_of(1))
            continue
        with pytest.raises(FileUnreadable):
            decode(value, ReadObjects())
