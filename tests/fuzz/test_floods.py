"""What is large, endless or compressed from nothing: bounded in memory and in time."""

import contextlib
import gzip
import os
import tracemalloc

import pytest

from tests.fuzz import rendering, values
from tests.fuzz.rendezvous import runtime_directory
from tests.fuzz.viewer_wire import heard
from vramtop.errors import FileUnreadable, UsageError
from vramtop.settings import load_config
from vramtop.sources import postmortem
from vramtop.sources.recording.reader import Reader

MIB = 1 << 20
TOLD = {m["type"]: m for m in values.CORPUS}


@contextlib.contextmanager
def at_most(mib):
    """The block takes no more memory than that."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < mib * MIB
    finally:
        tracemalloc.stop()


@pytest.fixture
def told():
    """The snapshots of a viewer: while the stream comes, and after its process has died."""
    with runtime_directory() as directory:
        yield lambda stream: list(heard(directory, stream))


def stream_of(count, make):
    return b"".join(values.line(make(number)) for number in range(count))


def test_histories_of_ever_new_devices_end_the_connection(told):
    stream = stream_of(500, lambda n: {**TOLD["history"], "device": f"cuda:{n}"})
    with at_most(8):
        listening, _ = told(stream)
    assert "more than 64 devices" in listening.problems[0].message


def test_devices_that_differ_by_what_is_not_shown_are_not_kept_without_end(told):
    padding = {"of a newer probe": "x" * 100_000}
    detail = {**TOLD["detail"], **padding}
    names = ["a" + "\0" * (n % 250) + "\1" * (n // 250) for n in range(400)]
    stream = stream_of(400, lambda n: {**detail, "device": names[n]})
    with at_most(24):
        listening, _ = told(stream)
    assert not listening.problems


def test_a_line_without_an_end_is_given_up(told):
    with at_most(16):
        listening, _ = told(b'{"type":"sample","x":"' + b"x" * (3 * MIB))
    assert "longer than" in listening.problems[0].message


def test_a_line_of_a_million_things_is_bounded(told):
    for thing in (b"[]", b"{}", b"0", b'{"":[]}'):
        many = thing + (b"," + thing) * ((MIB - 100) // (len(thing) + 1))
        with at_most(128):
            told(b'{"type":"from a newer probe","x":[' + many + b"]}\n")


def test_who_ends_after_saying_too_much_has_a_post_mortem_that_can_be_read(told):
    padding = "x" * (MIB - 10_000)
    large = [{**TOLD[kind], "of a newer probe": padding} for kind in ("hello", "stages")]
    shortest = {k: v for k, v in TOLD["detail"].items() if k != "modules"}
    large += [{**shortest, "of a newer probe": padding}, TOLD["job"], TOLD["sample"]]
    *_, after = told(b"".join(map(values.line, large)))
    (process,) = after.processes
    assert process.probe.ended == "lost"
    rendering.render(after)
    read = postmortem.read(process.probe.failure.file)
    assert read.failure.kind == "lost"


@pytest.mark.parametrize("text", [b" ", b"[", b"\n", b'{"taken_at":1}\n'], ids=repr)
def test_a_recording_of_megabytes_out_of_nothing(tmp_path, text):
    header = {
        "vramtop": "recording",
        "version": 1,
        "started_at": 1.0,
        "hostname": "here",
        "vramtop_version": "0",
    }
    path = tmp_path / "bomb.vramtop"
    with gzip.open(path, "wb", 1) as file:
        file.write(values.line(header))
        for _ in range(64):
            file.write(text * (MIB // len(text)))
    with at_most(64):
        reader = Reader(path)
        assert reader.next() is None
        rendering.assert_clean(reader.ending)
        reader.close()
    assert "damaged" in reader.ending


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_refused_at_once(tmp_path, make):
    path = tmp_path / "it"
    make(path)
    for read in (Reader, postmortem.read):
        with pytest.raises(FileUnreadable):
            read(path)


def test_a_post_mortem_larger_than_one_may_be_is_not_read(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with at_most(1), pytest.raises(FileUnreadable, match="larger than one may be"):
        postmortem.read(path)


def test_a_config_without_an_end_is_read_no_further_than_it_may_be_long(tmp_path):
    path = tmp_path / "config.toml"
    path.symlink_to("/dev/zero")
    with at_most(8), pytest.raises(UsageError, match="cannot be read"):
        load_config(path)
