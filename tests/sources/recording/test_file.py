"""The file: cut anywhere, flipped anywhere, appended to, refused."""

import gzip
import json
import os
import random
import subprocess
import sys
import tracemalloc
import zlib
from dataclasses import replace
from itertools import islice

import pytest

from tests.conftest import read_recording
from vramtop.errors import FileUnreadable, VramtopError
from vramtop.sources.fake import snapshots
from vramtop.sources.recording import lines
from vramtop.sources.recording.index import scan
from vramtop.sources.recording.reader import Reader
from vramtop.sources.recording.writer import Writer

GIVEN = [*islice(snapshots("nogpu"), 12)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.vramtop"


def write(path, given):
    """Sizes of the file after each snapshot, and after the end."""
    sizes = []
    with Writer(path) as writer:
        for snapshot in given:
            writer.write(snapshot)
            sizes.append(path.stat().st_size)
    return [*sizes, path.stat().st_size]


def test_what_was_written_is_read(path):
    write(path, GIVEN)
    assert read_recording(path) == (GIVEN, "")
    assert path.stat().st_mode & 0o077 == 0  # commands of other users are in it


def test_a_person_can_read_it(path):
    write(path, GIVEN)
    shown = subprocess.run(["zcat", path], capture_output=True, check=True).stdout.splitlines()
    head, *rest = map(json.loads, shown)
    assert head["vramtop"] == "recording"
    assert head["version"] == 1
    assert [line["taken_at"] for line in rest] == [s.taken_at for s in GIVEN]
    command = rest[-1]["processes"][0]["command"]
    assert command == GIVEN[-1].processes[0].command


def test_unpacked_and_packed_again_it_is_the_same_recording(path):
    write(path, GIVEN[:5])
    write(path, GIVEN[5:])
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())))
    assert read_recording(path) == (GIVEN, "")


def test_cut_at_any_byte_it_gives_every_snapshot_before_the_cut(path, tmp_path):
    sizes = write(path, GIVEN)
    data = path.read_bytes()
    cut = tmp_path / "cut.vramtop"
    near = {size + off for size in sizes for off in range(-5, 6)}
    for length in sorted({*range(0, len(data), 19), *near} & {*range(len(data))}):
        cut.write_bytes(data[:length])
        whole = sum(size <= length for size in sizes[:-1])
        try:
            found, ending = read_recording(cut)
        except FileUnreadable:
            assert whole == 0
            continue
        # The text of one more may be there, though not yet the end of its flush.
        assert len(found) in (whole, whole + 1)
        assert found == GIVEN[: len(found)]
        assert str(len(found)) in ending
        if length in sizes:
            assert "not ended in order" in ending
    assert read_recording(cut)[0] == GIVEN


def test_a_cut_within_a_snapshot_is_said_in_words(path):
    sizes = write(path, GIVEN)
    os.truncate(path, sizes[4] + 30)
    found, ending = read_recording(path)
    assert found == GIVEN[:5]
    said = "the recording ends in the middle of a snapshot: cut after 5 snapshots"
    assert ending == said


def test_flipped_bytes_neither_crash_nor_hang(path):
    write(path, GIVEN[:6])
    write(path, GIVEN[6:])
    data = path.read_bytes()
    rng = random.Random(5)
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 3))):
            changed[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(changed)
        try:
            found, ending = read_recording(path)
        except FileUnreadable:
            continue
        assert len(found) <= len(GIVEN)
        assert found == GIVEN or ending
        scan(reader := Reader(path))
        reader.close()


def test_what_is_before_the_damage_is_read(path):
    sizes = write(path, GIVEN)
    data = path.read_bytes()
    damaged = data[: sizes[4]] + b"\xff" * 50 + data[sizes[4] + 50 :]  # no block begins like this
    path.write_bytes(damaged)
    found, ending = read_recording(path)
    assert found == GIVEN[:5]
    assert "damaged after 5 snapshots" in ending
    with pytest.raises(FileUnreadable, match=r"damaged .*; record into another file"):
        Writer(path)
    assert path.read_bytes() == damaged


def test_a_changed_byte_does_not_go_unnoticed_to_the_end(path):
    write(path, GIVEN)
    data = bytearray(gzip.decompress(path.read_bytes()))
    at = data.rindex(b'"used_bytes":') + len(b'"used_bytes":')
    packed = bytearray(path.read_bytes())
    packed[-8:-4] = zlib.crc32(data[:at] + b"9" + data[at + 1 :]).to_bytes(4, "little")
    path.write_bytes(packed)
    found, ending = read_recording(path)
    assert found == GIVEN
    assert "damaged after 12 snapshots" in ending


def test_more_is_appended_with_a_header_of_its_own(path):
    write(path, GIVEN[:7])
    size = path.stat().st_size
    before = path.read_bytes()
    write(path, GIVEN[7:])
    assert path.read_bytes()[:size] == before
    assert read_recording(path) == (GIVEN, "")
    assert subprocess.run(["gzip", "-t", path]).returncode == 0


def test_after_a_crash_more_is_appended_behind_the_last_whole_snapshot(path):
    sizes = write(path, GIVEN[:6])
    data = path.read_bytes()
    for length in (sizes[-1] - 5, sizes[-2], sizes[3] + 1, sizes[3] + 60, sizes[4] - 2, sizes[0]):
        path.write_bytes(data[:length])
        whole = sum(size <= length for size in sizes[:-1])
        write(path, GIVEN[6:])
        assert read_recording(path) == (GIVEN[:whole] + GIVEN[6:], "")
        assert subprocess.run(["gzip", "-t", path]).returncode == 0


def test_after_a_crash_in_the_second_header_the_first_run_is_kept(path):
    size = write(path, GIVEN[:3])[-1]
    write(path, GIVEN[3:])
    os.truncate(path, size + 40)
    write(path, GIVEN[5:])
    assert read_recording(path) == (GIVEN[:3] + GIVEN[5:], "")


@pytest.mark.parametrize(
    "content",
    [
        b"precious",
        b"\x1f\x8b\x08 and no more",
        gzip.compress(b"precious"),
        gzip.compress(b'{"vramtop":"postmortem","version":1}\n'),
        gzip.compress(b'{"vramtop":"recording","version":1}\n'),
        gzip.compress(b"[" * 100_000 + b"\n"),
        gzip.compress(b'{"vramtop":"recording","version":1,"started_at":NaN,"hostname":"h"}\n'),
    ],
)
def test_what_is_no_recording_is_neither_read_nor_overwritten(path, content):
    path.write_bytes(content)
    for use in (Reader, Writer):
        with pytest.raises(FileUnreadable, match="is no recording of vramtop"):
            use(path)
    assert path.read_bytes() == content


def test_another_version_is_named_and_left_alone(path):
    head = {"vramtop": "recording", "version": 2, "started_at": 1.0, "hostname": "h"}
    content = gzip.compress(json.dumps({**head, "vramtop_version": "3.1"}).encode() + b"\n")
    path.write_bytes(content)
    for use in (Reader, Writer):
        with pytest.raises(FileUnreadable, match=r"by vramtop 3\.1 in version 2.*reads version 1"):
            use(path)
    assert path.read_bytes() == content


def test_what_is_no_file_is_refused_at_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place in (pipe, tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(VramtopError):
            Reader(place)
        with pytest.raises(VramtopError):
            Writer(place)


def test_two_recorders_do_not_write_one_file(path):
    with Writer(path) as writer:
        with pytest.raises(VramtopError, match="written by another vramtop"):
            Writer(path)
        writer.write(GIVEN[0])
    assert read_recording(path) == (GIVEN[:1], "")


def test_a_line_without_end_costs_bounded_memory(path):
    write(path, GIVEN[:1])
    whole = path.read_bytes()
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(deflate.compress(b" " * (1 << 20)) for _ in range(200)) + deflate.flush()
    path.write_bytes(whole + bomb)
    tracemalloc.start()
    try:
        found, ending = read_recording(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == GIVEN[:1]
    assert "a line is longer than 16 MiB" in ending
    assert peak < 4 * lines.MAX_LINE_BYTES


def test_a_snapshot_too_large_with_its_past_is_recorded_without(path, monkeypatch):
    first = GIVEN[0]
    assert first.processes[0].probe.history
    monkeypatch.setattr("vramtop.sources.recording.writer.MAX_LINE_BYTES", 20_000)
    write(path, GIVEN[:2])
    found, ending = read_recording(path)
    assert ending == ""
    (process, *others) = first.processes
    bare = replace(process, probe=replace(process.probe, history=None))
    assert found == [replace(first, processes=(bare, *others)), GIVEN[1]]


def test_a_snapshot_too_large_without_it_too_is_not_written(path, monkeypatch):
    monkeypatch.setattr("vramtop.sources.recording.writer.MAX_LINE_BYTES", 100)
    with Writer(path) as writer, pytest.raises(VramtopError, match="cannot be recorded"):
        writer.write(GIVEN[0])
    assert read_recording(path) == ([], "")


FULL = """
import resource, sys
from itertools import islice
from pathlib import Path
from vramtop.errors import VramtopError
from vramtop.sources.fake import snapshots
from vramtop.sources.recording.writer import Writer
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
with Writer(Path(sys.argv[1])) as writer:
    try:
        for snapshot in islice(snapshots("nogpu"), 12):
            writer.write(snapshot)
    except VramtopError as error:
        print(writer.count, error)
"""


def test_where_no_more_fits_the_recording_ends_with_the_last_whole_snapshot(path, tmp_path):
    sizes = write(tmp_path / "all.vramtop", GIVEN)
    command = [sys.executable, "-c", FULL, path, str(sizes[5] + 20)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # The header tells the time of the run: some bytes more or less.
    count = int(said.split()[0])
    assert 5 <= count <= 7
    assert str(path) in said
    assert read_recording(path)[0] == GIVEN[:count]
    write(path, GIVEN[8:])
    assert read_recording(path) == (GIVEN[:count] + GIVEN[8:], "")
