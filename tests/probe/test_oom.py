"""Memory that really ends, by a limit of the address space, in a real training under the probe."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.inject.conftest import make_environment, start, wait_for  # noqa: F401  fixtures
from tests.probe.conftest import RawViewer
from vramtop.protocol.postmortem import SUFFIX
from vramtop.sources import postmortem

pytestmark = pytest.mark.timeout(400)  # two times eight trainings, beside whatever else runs
SCRIPT = Path(__file__).with_name("oom_training.py")
MIB = 1 << 20
ENDS = (
    *("forward", "backward", "step", "user", "thread", "silent"),
    *("forward hooks", "thread hooks"),
)
CAUGHT = ("caught, trained on, caught", "caught, told by the user")


@pytest.fixture(scope="module")
def ended(start, make_environment, tmp_path_factory):  # noqa: F811
    """What has come of each training, with the probe and, as ("plain", where), without."""
    processes = []
    for plain in (False, True):
        folder = tmp_path_factory.mktemp("rt")
        command = [sys.executable, SCRIPT, folder, *ENDS, *CAUGHT]
        environment = {**make_environment(folder / "run"), "PYTHONHASHSEED": "0"}
        processes.append((plain, folder, start(command, under_run=not plain, env=environment)))
    found = {}
    for plain, folder, process in processes:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        for line in out.decode().splitlines():
            where, pid, code = line.rsplit(" ", 2)
            files = sorted((folder / "run").glob(f"{pid}-*{SUFFIX}"))
            found[("plain", where) if plain else where] = SimpleNamespace(
                code=int(code),
                err=(folder / where).read_text(),
                files=[postmortem.read(path) for path in files],
                pid=int(pid),
            )
    return found


def test_in_forward(ended):
    (found,) = ended["forward"].files
    failure = found.failure
    assert (failure.kind, failure.device, failure.caught) == ("oom", "cpu", False)
    assert (failure.phase, failure.module, failure.module_source) == ("forward", "2.up", "exact")
    assert failure.requested_bytes == 32768 * 8192 * 4
    assert failure.limited_by == "address_space"
    assert 32 * MIB < failure.free_bytes < 260 * MIB  # of the 256 MiB that were left
    assert failure.step == 11  # since the fork
    assert "you tried to allocate 1073741824 bytes" in failure.message
    assert found.written_by == "probe"
    assert "in forward\n    return x + self.down(torch.relu(self.up(x)))" in found.traceback
    assert found.traceback.splitlines()[-1] in ended["forward"].err


def test_the_file_says_what_the_process_held(ended):
    (found,) = ended["forward"].files
    parameters = sum(64 * wide * 2 + wide + 64 for wide in (128, 128, 8192, 128)) * 4
    (device,) = found.process.probe.devices
    assert device.breakdown.parameter_bytes == parameters
    assert 2 * parameters < device.breakdown.optimizer_state_bytes < 2 * parameters + 1024
    assert found.process.probe.models[0].class_name == "Sequential"
    assert found.process.probe.optimizers[0].class_name == "AdamW"
    last = found.process.probe.history["cpu"][-1].breakdown
    assert last.process_bytes == pytest.approx(found.process.host_rss_bytes, rel=0.05)
    assert last.process_bytes > 100 * MIB
    assert found.process.pid == ended["forward"].pid
    assert f" {SCRIPT} " in found.process.command
    assert Path(found.failure.file).stat().st_mode & 0o777 == 0o600


def test_in_backward(ended):
    (found,) = ended["backward"].files
    failure = found.failure
    assert (failure.phase, failure.requested_bytes) == ("backward", 4096 * 8192 * 4)
    assert (failure.module, failure.module_source) == ("2.up", "nearest")  # of the relu behind it


def test_in_an_optimizers_step(ended):
    (found,) = ended["step"].files
    assert (found.failure.phase, found.failure.requested_bytes) == ("step", 64 * MIB)


def test_in_the_users_own_code(ended):
    (found,) = ended["user"].files
    assert found.failure.message.startswith("MemoryError")
    assert (found.failure.phase, found.failure.module) == ("other", None)
    assert "bytearray(1 << 30)" in found.traceback


def test_in_a_thread_the_program_goes_on_and_the_file_stays(ended):
    (found,) = ended["thread"].files
    assert ended["thread"].code == 0
    assert (found.failure.phase, found.failure.module) == ("forward", "2.up")
    assert found.failure.caught is False
    assert "in train" in found.traceback


def test_where_the_user_has_a_hook_for_threads_the_file_is_of_the_moment(ended):
    (found,) = ended["thread hooks"].files
    assert (found.failure.module, found.failure.caught, found.traceback) == ("2.up", None, None)


def test_any_other_end_leaves_nothing(ended):
    assert ended["silent"].files == []
    assert ended["silent"].code == 1


def test_who_catches_and_trains_on_has_caught_the_last_one_too(ended):
    found = ended["caught, trained on, caught"]
    assert (found.code, found.files) == (0, [])


def test_who_ends_after_the_first_one_may_have_given_up(ended):
    found = ended["caught, told by the user"]
    (file,) = found.files
    assert (found.code, file.failure.caught, file.failure.module) == (1, None, "2.up")


@pytest.mark.parametrize("where", ENDS)
def test_the_end_is_the_users_to_the_byte(ended, where):
    """Exit code, traceback, and what the user's own hooks print."""
    plain, probed = ended["plain", where], ended[where]
    assert probed.code == plain.code
    assert without_torchs_calls(probed.err) == without_torchs_calls(plain.err)
    if "forward" not in where and where != "thread":  # without modules in it nothing is dropped
        assert probed.err == plain.err
    assert "Error" in plain.err
    assert ("the user's hook" in plain.err) == ("hooks" in where)


def without_torchs_calls(trace):
    """A traceback without the frames by which torch calls a module.

    They are others for a module that has hooks, whoever put them in.
    """
    lines, is_torchs = [], False
    for line in trace.splitlines():
        if line.startswith("  File "):
            is_torchs = "torch/nn/modules/module.py" in line
        elif not line.startswith("    "):
            is_torchs = False
        if not is_torchs:
            lines.append(line)
    return lines


def test_caught_it_is_counted_and_a_viewer_is_told_of_the_last(
    start,  # noqa: F811
    make_environment,  # noqa: F811
    tmp_path,
    wait_for,  # noqa: F811
):
    run = tmp_path / "run"
    command = [sys.executable, SCRIPT, "-", "caught, then forward"]
    process = start(command, env=make_environment(run))
    try:
        assert process.stdout.readline() == b"trained\n"
        (path,) = wait_for(lambda: list(run.glob("*.sock")))
        viewer = RawViewer(path)
        viewer.next("sample", timeout_s=60)
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"went on with 2048\n"
        told = viewer.next("oom")
        while told["caught_ooms"] < 2:
            told = viewer.next("oom")
        assert (told["caught"], told["file"]) == (True, None)
        assert (told["phase"], told["module"]) == ("forward", "2.up")
        assert told["requested_bytes"] == 16384 * 8192 * 4
        assert list(run.glob(f"*{SUFFIX}")) == []

        process.stdin.write(b"\n")
        process.stdin.flush()
        while told["caught"] is not False:
            told = viewer.next("oom")
        assert (told["module"], told["caught_ooms"]) == ("2.up", 2)
        assert told["requested_bytes"] == 32768 * 8192 * 4
        assert Path(told["file"]).exists()
        assert viewer.next("bye")["why"] == "exit"
        viewer.close()
        assert process.wait(60) == 1
    finally:
        process.kill()
        process.communicate()
