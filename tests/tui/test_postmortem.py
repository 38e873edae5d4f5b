"""A training that fails, or is lost, while the screen watches it."""

import json
from dataclasses import replace

import pytest

from tests.report.failed_fake import FAILURE, PID, failed
from tests.tui.conftest import SteppedSource
from tests.tui.predictions import Expecting, of_detail
from vramtop.core.failure import Failure
from vramtop.errors import UsageError
from vramtop.predict import postmortem as predict
from vramtop.predict import predictions
from vramtop.protocol.postmortem import SCHEMA

ROW = f"{PID} ada"
CAUGHT = replace(FAILURE, caught=True, file=None)


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """Nothing is traced (the stack's tests do that): what was asked for."""
    asked = []

    def foreseen(fleet, process, at, progress, tracer):
        asked.append((process, at))
        raise UsageError("made up")

    monkeypatch.setattr(predict, "foreseen", foreseen)
    return asked


class Failing(SteppedSource):
    """Delivers these snapshots at once."""

    def __init__(self, snapshots):
        super().__init__()
        self._snapshots, self._first = iter(snapshots), len(snapshots)
        self.last = snapshots[-1]


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_the_screen_says_so_and_the_row_stays(shown, size):
    async with shown(source=Failing(failed()), size=size) as screen:
        assert f"▲ pid {PID} ran out of memory: press w" in screen.lines[0]
        row = screen.line_with(ROW)
        assert "(OOM)" in row
        assert size[0] < 160 or "OOM 1s" in row
        assert "10.4 GiB" in row  # as last seen


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_w_tells_why(shown, size):
    async with shown(source=Failing(failed(caught_ooms=2)), size=size) as screen:
        await screen.press("w")
        said = " ".join(line.strip("│ ") for line in inside(screen))
        assert "step 541, backward of transformer.h.11.mlp: asked 2.00 GiB, 1.00 GiB free" in said
        assert "would have fit without pid 4102" in said
        await screen.press("end")
        said = " ".join(line.strip("│ ") for line in inside(screen))
        assert "vramtop postmortem /run/4101-1-0.postmortem.json" in said
        await screen.press("w")
        assert len(screen.app.screen_stack) == 1


def inside(screen):
    """The lines of the box."""
    found = [line.partition("│")[2].rpartition("│")[0] for line in screen.lines]
    return [line for line in found if line]


async def test_a_caught_one_is_a_quiet_figure(shown):
    shots = failed(CAUGHT, caught_ooms=2, state="running")
    async with shown(source=Failing(shots)) as screen:
        assert "▲" not in screen.lines[0]
        assert "OOM" not in screen.line_with(ROW)
        await screen.press("enter")
        assert "2 OOMs caught and retried" in screen.words


async def test_one_of_which_nobody_knows_yet_is_no_alarm_until_the_process_ends(shown):
    pending = replace(FAILURE, caught=None)
    async with shown(source=Failing(failed(pending, state="running"))) as screen:
        assert "▲" not in screen.lines[0]
        screen.source.give(failed(pending)[-1])
        await screen.pilot.pause()
        assert "ran out of memory" in screen.lines[0]


async def test_a_lost_process_stays_marked_gone_and_is_told_of(shown):
    lost = Failure("lost", 0.0, step=540, message="the kernel's OOM killer has struck meanwhile")
    async with shown(source=Failing(failed(lost))) as screen:
        assert f"▲ pid {PID} ended without a word: press w" in screen.lines[0]
        assert "(gone)" in screen.line_with(ROW)
        await screen.press("w")
        assert "step 540: gone; the kernel's OOM killer has struck" in (screen.words)
        assert "what to do" in screen.words


async def test_it_stays_when_its_source_has_forgotten_it(shown):
    shots = failed()
    last = shots[-1]
    without = tuple(process for process in last.processes if process.pid != PID)
    async with shown(source=Failing(shots)) as screen:
        for later_s in (1.0, 61.0, 7200.0):
            screen.source.give(replace(last, taken_at=last.taken_at + later_s, processes=without))
            await screen.pilot.pause()
            assert "(OOM)" in screen.line_with(ROW)
            assert f"▲ pid {PID} ran out of memory: press w" in screen.lines[0]
        await screen.press("w")
        assert "asked 2.00 GiB" in screen.words
        await screen.press("escape")
        assert "▲" not in screen.lines[0]  # it is known
        await screen.press("w")  # and told of again
        assert "asked 2.00 GiB" in screen.words


async def test_an_oom_that_the_program_has_outlived_is_no_news_for_ever(shown):
    shots = failed(state="running")  # in a thread, say
    async with shown(source=Failing(shots)) as screen:
        assert "ran out of memory" in screen.lines[0]
        screen.source.give(replace(shots[-1], taken_at=shots[-1].taken_at + 601))
        await screen.pilot.pause()
        assert "▲" not in screen.lines[0]


async def test_a_thread_that_failed_is_no_mark_of_a_training_that_goes_on(shown):
    shots = failed(replace(FAILURE, step=3), state="running")
    async with shown(source=Failing(shots)) as screen:
        assert "ran out of memory" in screen.lines[0]
        assert "(OOM)" not in screen.line_with(ROW)


async def test_w_tells_of_what_is_warned_of_before_what_is_known(shown):
    """The first one that failed stays selected; then another fails."""
    shots = failed()
    last = shots[-1]
    other = next(p for p in last.processes if p.pid != PID)
    failure = replace(FAILURE, at=last.taken_at + 1, requested_bytes=5 * (1 << 30), file=None)
    other = replace(other, state="gone", probe=replace(other.probe, state="gone", failure=failure))
    processes = tuple(other if p.pid == other.pid else p for p in last.processes)
    async with shown(source=Failing(shots)) as screen:
        await screen.press("w", "escape")
        assert screen.selected() == PID
        screen.source.give(replace(last, taken_at=last.taken_at + 1, processes=processes))
        await screen.pilot.pause()
        assert f"▲ pid {other.pid} ran out of memory: press w" in screen.lines[0]
        assert "more" not in screen.lines[0]
        await screen.press("w")
        assert "asked 5.00 GiB" in screen.words
        await screen.press("escape", "w")
        assert "asked 2.00 GiB" in screen.words


async def test_without_a_failure_the_key_says_so(shown):
    async with shown() as screen:
        await screen.press("w")
        assert "no process here has failed" in screen.words
        assert len(screen.app.screen_stack) == 1


async def test_the_latest_failure_is_meant_where_another_process_is_selected(shown):
    async with shown(source=Failing(failed())) as screen:
        await screen.press("2", "down")
        assert screen.selected() != PID
        await screen.press("w")
        assert "asked 2.00 GiB" in screen.words


async def test_what_the_process_wrote_down_itself_is_read(shown, asked, tmp_path):
    path = tmp_path / "it.postmortem.json"
    device = {"device": "cuda:0", "uuid": "GPU-fake-0", "allocator": None, "boundary": None}
    held = {"parameter_bytes": 7 << 30, "gradient_bytes": 0, "optimizer_state_bytes": 0}
    sample = {"type": "sample", "at": 1.0, "step": 540, "devices": [{**device, "breakdown": held}]}
    failure = {
        "type": "oom",
        "at": 1.0,
        "device": "cuda:0",
        "step": 541,
        "requested_bytes": 3 << 30,
    }
    content = {
        "schema": SCHEMA,
        "written_at": 1.0,
        "written_by": "probe",
        "pid": PID,
        "failure": failure,
        "traceback": "Traceback\ntorch.OutOfMemoryError: by the file\n",
        "messages": [sample],
    }
    path.write_text(json.dumps(content))
    source = Failing(failed(replace(FAILURE, file=str(path))))
    async with shown(source=source) as screen:
        await screen.press("w")
        await screen.app.workers.wait_for_complete()
        await screen.pilot.pause()
        assert "asked 3.00 GiB" in screen.words
        assert "7.00 GiB" in screen.line_with("parameters")
        while "not known: made up" not in screen.words:
            await screen.pilot.pause(0.05)
        screen.source.give(source.last)
        await screen.pilot.pause()
        # Once, and of what the file says.
        ((process, at),) = asked
        assert (process.probe.failure.requested_bytes, at.requested_bytes) == (3 << 30, 3 << 30)
        await screen.press("end")
        assert "torch.OutOfMemoryError: by the file" in screen.words


@pytest.mark.parametrize("content", [b"", b'{"schema": "no"}', b"\xff" * 100])
async def test_a_file_that_cannot_be_read_changes_nothing(shown, tmp_path, content):
    path = tmp_path / "it.postmortem.json"
    path.write_bytes(content)
    async with shown(source=Failing(failed(replace(FAILURE, file=str(path))))) as screen:
        await screen.press("w")
        await screen.app.workers.wait_for_complete()
        await screen.pilot.pause()
        assert "asked 2.00 GiB" in screen.words


def written(path):
    """A post-mortem file of the fake training."""
    failure = {"type": "oom", "at": 1.0, "device": "cuda:0", "requested_bytes": 3 << 30}
    content = {
        "schema": SCHEMA,
        "written_at": 1.0,
        "written_by": "probe",
        "pid": PID,
        "failure": failure,
        "messages": [],
    }
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    return replace(FAILURE, file=str(path))


async def test_what_was_predicted_before_it_failed_is_in_its_file(shown, tmp_path, monkeypatch):
    path = tmp_path / "it.postmortem.json"
    shots = failed(written(path))
    detail = next(p for p in shots[0].processes if p.pid == PID).probe.devices[0].detail
    monkeypatch.setattr(predictions, "expect", lambda *_: Expecting(of_detail(detail)))
    monkeypatch.setattr(predictions, "signature", lambda *_: "one")
    async with shown(source=Failing(shots[:-1]), size=(160, 50)) as screen:
        await screen.press("8")
        while "trace" not in screen.words:
            await screen.pilot.pause(0.05)
        screen.source.give(shots[-1])
        await screen.pilot.pause()
        await screen.app.workers.wait_for_complete()
    made = json.loads(path.read_text())["prediction"]
    peak = next(moment for moment in made["moments"] if moment["name"] == "peak")
    held = detail.peak.breakdown.parameter_bytes
    assert peak["categories"]["parameter"]["predicted_bytes"] == held


async def test_nothing_is_predicted_for_a_file(shown, tmp_path):
    path = tmp_path / "it.postmortem.json"
    async with shown(source=Failing(failed(written(path)))) as screen:
        await screen.pilot.pause()
        await screen.app.workers.wait_for_complete()
    assert "prediction" not in json.loads(path.read_text())
