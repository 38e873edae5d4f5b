"""What may stand in a recording: cut and flipped bytes, lines of anything, members of anything."""

import contextlib
import functools
import gzip
import json
import math
import tempfile
from itertools import islice
from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz import rendering, values
from tests.fuzz.harness import Fuzzer
from vramtop.errors import VramtopError
from vramtop.sources.fake import snapshots
from vramtop.sources.recording.index import scan
from vramtop.sources.recording.reader import Reader
from vramtop.sources.recording.replay import fleet_at
from vramtop.sources.recording.writer import Writer

_READ = 50


@functools.cache
def recorded():
    """(bytes, lines) of a few snapshots of two runs of a recorder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "whole.vramtop")
        for scenario in ("nogpu", "training"):
            with Writer(path) as writer:
                for snapshot in islice(snapshots(scenario), 3):
                    writer.write(snapshot)
        data = path.read_bytes()
    return data, [json.loads(line) for line in gzip.decompress(data).splitlines()]


@contextlib.contextmanager
def _opened():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "any.vramtop")

        def check(data):
            path.write_bytes(data)
            found, ending = read(path)
            rendering.render(*found[:1], *found[1:][-1:])
            rendering.assert_clean(ending)
            if found:
                scanned(path)
            try:
                with Writer(path) as writer:
                    writer.write(next(snapshots("nogpu")))
            except VramtopError as error:
                rendering.assert_one_line(error)
                assert path.read_bytes().startswith(data[:100])
                return
            appended, ending = read(path)
            assert appended[: len(found)] == found

        yield check


def scanned(path):
    """As a replay goes through it before it shows anything, and to a moment of it."""
    reader = Reader(path)
    index = scan(reader)
    reader.close()
    rendering.assert_clean(index.ending)
    assert math.isfinite(index.length_s)
    fleet_at(path, index.length_s / 2)


def read(path):
    """All snapshots and why there are no more."""
    try:
        reader = Reader(path)
    except VramtopError as error:
        rendering.assert_one_line(error)
        return [], str(error)
    found = []
    while len(found) < _READ:
        snapshot = reader.copy().next()
        assert reader.next() == snapshot
        if snapshot is None:
            break
        found.append(snapshot)
    ending = reader.ending or ""
    reader.close()
    assert len(ending) < 1000
    return found, ending


def mutated(random):
    """Bytes of the file, or of the lines in it."""
    data, lines = recorded()
    chance = random.random()
    if chance < 0.2:
        return data[: random.randrange(len(data) + 1)]
    if chance < 0.4:
        return values.mangled(random, data)
    lines = lines[: random.choice((2, 3, 5, 8))]
    at = random.randrange(len(lines))
    lines[at] = values.spoilt(random, lines[at])
    text = b"".join(map(values.line, lines))
    return gzip.compress(values.mangled(random, text) if chance > 0.8 else text, 1)


FILES = st.binary(max_size=300) | st.lists(
    st.deferred(lambda: values.messages(recorded()[1])), max_size=4
).map(lambda lines: gzip.compress(b"".join(map(values.line, [recorded()[1][0], *lines])), 1))
FUZZER = Fuzzer("recordings", _opened, mutated, FILES, suite_inputs=12)
