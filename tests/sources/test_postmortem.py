"""Files that claim to be post-mortems: read, or refused with one line."""

import json
import os

import pytest

from tests.sources.test_probes import DETAIL, HELLO, SAMPLE
from vramtop.errors import FileUnreadable
from vramtop.protocol.postmortem import MAX_FILE_BYTES, MAX_FILES, SUFFIX, encode, write
from vramtop.sources import postmortem

GOOD = {
    "schema": "vramtop.postmortem/1",
    "written_at": 5.0,
    "written_by": "viewer",
    "pid": 12,
    "start_time": 1.5,
    "user": "me",
    "command": "python train.py",
    "failure": {
        "type": "oom",
        "device": "cpu",
        "at": 4.0,
        "step": 3,
        "phase": "backward",
        "module": "h.0",
        "module_source": "nearest",
        "requested_bytes": 10,
        "caught": False,
    },
    "traceback": "one\n\x1b[31mtwo\n",
    "messages": [HELLO, DETAIL, SAMPLE],
    "rss_bytes": 1000,
    "host": {
        "hostname": "node1",
        "ram_total_bytes": 9000,
        "ram_used_bytes": 8000,
        "devices": [
            {"index": 0, "uuid": "host", "name": "host RAM", "backend": "host", "total_bytes": 9000}
        ],
    },
    "prediction": {"told": "x"},
}


def written(tmp_path, contents):
    path = tmp_path / "one.postmortem.json"
    path.write_bytes(contents if isinstance(contents, bytes) else json.dumps(contents).encode())
    return path


def test_what_it_says(tmp_path):
    path = written(tmp_path, GOOD)
    found = postmortem.read(path)
    failure = found.failure
    assert (failure.phase, failure.module, failure.module_source) == ("backward", "h.0", "nearest")
    assert (failure.requested_bytes, failure.free_bytes, failure.file) == (10, None, str(path))
    process = found.process
    assert (process.pid, process.started_at, process.user) == (12, 1.5, "me")
    assert (process.state, process.probe.state) == ("gone", "gone")
    assert process.probe.failure == failure
    (device,) = process.probe.devices
    assert device.detail.step == 3
    assert device.breakdown.process_bytes == 1000
    assert device.breakdown.outside_allocator_bytes == 1000 - 350
    assert found.snapshot.host.ram_used_bytes == 8000
    assert found.snapshot.devices[0].memory.total_bytes == 9000
    assert found.snapshot.taken_at == 4.0
    assert found.traceback == "one\n[31mtwo\n"  # nothing steers the terminal
    assert (found.written_by, found.prediction) == ("viewer", {"told": "x"})


def test_only_what_must_be_there_must(tmp_path):
    least = {name: GOOD[name] for name in ("schema", "written_at", "pid")}
    found = postmortem.read(written(tmp_path, {**least, "failure": {"type": "lost", "at": 1.0}}))
    assert (found.failure.kind, found.process.probe.ended) == ("lost", "lost")
    assert found.snapshot.devices == ()


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"", "not JSON"),
        (json.dumps(GOOD).encode()[:-40], "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[]", "no post-mortem of this version"),
        ({**GOOD, "schema": "vramtop.postmortem/2"}, "no post-mortem of this version"),
        ({**GOOD, "failure": None}, "failure is not an object"),
        ({**GOOD, "failure": {"type": "other", "at": 1.0}}, "neither oom nor lost"),
        ({**GOOD, "failure": {**GOOD["failure"], "requested_bytes": -1}}, "requested_bytes"),
        ({**GOOD, "messages": [{"type": 3}]}, "no type"),
        ({**GOOD, "messages": [{"type": "hello", "protocol": 9}]}, "protocol"),
        ({**GOOD, "messages": [HELLO] * 1001}, "messages"),
        ({**GOOD, "pid": "12"}, "pid"),
        ({**GOOD, "host": {"devices": [{}]}}, "index"),
        ({**GOOD, "prediction": [1]}, "prediction"),
        ({**GOOD, "traceback": 4}, "traceback"),
        (json.dumps(GOOD).replace("8000", "NaN").encode(), "not JSON"),
        (b" " * (MAX_FILE_BYTES + 1), "larger than one may be"),
    ],
)
def test_anything_else_is_refused_with_a_line(tmp_path, contents, words):
    with pytest.raises(FileUnreadable, match=words) as caught:
        postmortem.read(written(tmp_path, contents))
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "none", "/dev/zero"):
        with pytest.raises(FileUnreadable):
            postmortem.read(path)


def test_the_newest_first(tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(tmp_path))
    for at, name in enumerate(("b", "c", "a")):
        path = tmp_path / (name + SUFFIX)
        path.touch()
        os.utime(path, (at, at))
    (tmp_path / "12-34.sock").touch()
    assert [path.name[0] for path in postmortem.stored()] == ["a", "c", "b"]
    tmp_path.chmod(0o755)  # anybody might have put them there
    assert postmortem.stored() == []


def test_a_directory_keeps_so_many(tmp_path):
    for number in range(MAX_FILES + 3):
        path = tmp_path / f"{number}-1-0{SUFFIX}"
        write(path, b"{}", overwrite=True)
        os.utime(path, (number, number))
    write(tmp_path / f"last{SUFFIX}", b"{}", overwrite=False)
    kept = {path.name.partition("-")[0] for path in tmp_path.iterdir()}
    assert len(kept) == MAX_FILES
    assert {"0", "1", "2", "3"}.isdisjoint(kept)
    with pytest.raises(FileExistsError):
        write(tmp_path / f"last{SUFFIX}", b"other", overwrite=False)
    assert (tmp_path / f"last{SUFFIX}").read_bytes() == b"{}"


def test_too_much_is_left_out_in_its_order():
    blocks = {"type": "segments", "device": "cuda:0", "fill": "x" * MAX_FILE_BYTES}
    past = {"type": "history", "device": "cuda:0", "fill": "x" * (MAX_FILE_BYTES // 2)}
    detail = {"type": "detail", "modules": [[str(i), "x" * 100, 1, 1] for i in range(300)]}

    def kept(*messages):
        data = encode({**GOOD, "messages": [HELLO, *messages]})
        assert len(data) <= MAX_FILE_BYTES
        return [message["type"] for message in json.loads(data)["messages"]]

    assert kept(past, detail) == ["hello", "history", "detail"]
    assert kept(past, blocks, detail) == ["hello", "history", "detail"]
    assert kept(past, past, blocks, detail) == ["hello", "detail"]
