"""What the fuzzers and a reading of the code have found, each by itself."""

import copy
import gzip
import json
from dataclasses import replace

import pytest

from tests.fuzz import nvml_layer, recordings, rendering, values, viewer_wire
from tests.fuzz.rendezvous import runtime_directory
from tests.fuzz.values import NUMBERS
from vramtop.errors import UsageError
from vramtop.settings import load_config
from vramtop.sources import postmortem
from vramtop.sources.recording.index import scan
from vramtop.sources.recording.reader import Reader

TOLD = {m["type"]: m for m in values.CORPUS}


def hear(*messages):
    """The snapshot of a viewer that was told this."""
    with runtime_directory() as directory:
        return next(viewer_wire.heard(directory, b"".join(map(values.line, messages))))


def job_with(**changes):
    return {**TOLD["job"], "models": [{**TOLD["job"]["models"][0], **changes}]}


@pytest.mark.parametrize("text", ["\x9b2J", "\x7f", "\ud800", "\u202etxt"], ids=ascii)
def test_names_in_a_configuration_steer_no_terminal(text):
    job = job_with(hf_config={text: {"x": [text]}}, parameters_by_dtype={text: 1})
    snapshot = hear(job, TOLD["sample"])
    assert not snapshot.problems
    rendering.render(snapshot)


@pytest.mark.parametrize("number", [float("inf"), float("nan"), 10**41], ids=str)
def test_a_configuration_s_numbers_can_be_written_down(number):
    snapshot = hear(job_with(hf_config={"x": number}), TOLD["sample"])
    assert "hf_config" in snapshot.problems[0].message


def test_a_configuration_nested_without_end_is_refused():
    config = json.loads('{"x":' * 100 + "1" + "}" * 100)
    assert "nested" in hear(job_with(hf_config=config)).problems[0].message


def test_a_version_of_any_length_makes_a_short_problem():
    assert len(hear({**TOLD["hello"], "protocol": "9" * 70_000}).problems[0].message) < 200


@pytest.mark.parametrize("at", ["[bold]", 10**41, -1.0, []], ids=str)
def test_whatever_start_a_lost_process_has_named_its_file_can_be_read(at):
    told = ({**TOLD["hello"], "start_time": at}, TOLD["job"], TOLD["sample"])
    with runtime_directory() as directory:
        list(viewer_wire.heard(directory, b"".join(map(values.line, told))))
        (path,) = postmortem.stored()
        assert postmortem.read(path).process.started_at is None


def test_a_command_line_of_anybody_s_steers_no_terminal():
    snapshot = hear(TOLD["sample"])
    process = replace(snapshot.processes[0], command="python\x1b]0;owned\x07 \x9b2J\r\nroot")
    rendering.render(replace(snapshot, processes=(process,)))


@pytest.mark.parametrize("call", ["Count", "MaxMigDeviceCount", "ComputeRunningProcesses"])
def test_a_driver_may_count_to_four_billion(call):
    mode = {"nvmlDeviceGetMigMode": [(0, [1, 1])] * 9}
    nvml_layer.check({**mode, f"nvmlDeviceGet{call}": [(0, 2**32 - 1)] * 9})


@pytest.mark.parametrize("call", sorted(nvml_layer.KINDS))
def test_a_driver_may_answer_what_is_of_no_kind(call):
    for wrong in (None, "", "\x1b[2J", -1, float("nan"), [], object()):
        nvml_layer.check({call: [(0, wrong)] * 3})


def test_a_config_nested_without_end_is_an_error_in_one_line(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("backend = " + "[" * 5000)
    with pytest.raises(UsageError, match="nested too deeply"):
        load_config(path)


def recording_of(path, lines):
    path.write_bytes(gzip.compress(b"".join(map(values.line, lines))))
    return path


def test_an_infinity_that_nobody_reads_ends_a_recording(tmp_path):
    _, lines = copy.deepcopy(recordings.recorded())
    at, found = next((i, item) for i, line in enumerate(lines) for item in numbered(line))
    found["of a newer vramtop"] = float("inf")
    found, ending = recordings.read(recording_of(tmp_path / "r", lines))
    assert "no JSON" in ending
    assert len(found) < at


def numbered(value):
    """What is written once and then named."""
    for container, key in values.places(value):
        if isinstance(container[key], dict) and "@new" in container[key]:
            yield container[key]


def test_a_time_of_hundreds_of_digits_ends_an_index(tmp_path):
    _, (header, *_) = recordings.recorded()
    path = recording_of(tmp_path / "r", [header, {"taken_at": max(NUMBERS[:13])}])
    reader = Reader(path)
    assert len(scan(reader)) == 0
    reader.close()
