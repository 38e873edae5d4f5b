"""Recording what the screen shows, and the same screen over the recording."""

import resource
import time
from itertools import islice

import pytest

from tests.conftest import read_recording
from vramtop.sources.fake import snapshots
from vramtop.sources.recording.replay import Replay
from vramtop.sources.recording.writer import Writer
from vramtop.tui.panes import PANES


class Given:
    """A source of these snapshots, which come when the test says so."""

    period_s = 1.0

    def __init__(self, given):
        self._given = iter(given)
        self._deliver = None

    def start(self, deliver):
        self._deliver = deliver

    def step(self, count=1):
        for snapshot in islice(self._given, count):
            self._deliver(snapshot)

    def stop(self):
        pass


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory, where key r records."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, given):
    with Writer(path) as writer:
        for snapshot in given:
            writer.write(snapshot)
    return path


def recorded_in(folder):
    (path,) = folder.glob("vramtop-????????-??????.vramtop")
    return path


async def until(screen, condition, seconds=20.0):
    """Wait for the screen, however slow the machine is."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, screen.text
        await screen.pilot.pause(0.01)


async def settle(screen):
    """Wait until the replay is where it was sent to."""
    replay = screen.app._replay
    shown = lambda: not replay.shown[1].is_seeking and screen.app._view.playback == replay.shown[1]  # noqa: E731
    await until(screen, shown)
    await screen.pilot.pause()
    await until(screen, lambda: replay.shown[1].text in screen.lines[0])


async def painted(screen):
    """All messages are handled, and what they led to; a pause would wait for an idle machine."""
    for _ in range(2):
        await screen.pilot._wait_for_screen()
        screen.app.screen._on_timer_update()
    await screen.pilot._wait_for_screen()


async def panes_of(screen):
    """Every pane as it is on the screen, text and styles; those that share a place in turn."""
    found = {}
    # From the last one: what is in sight beside it need not be gone to.
    for number, pane in reversed([*enumerate(PANES, 1)]):
        if pane.NAME in found:
            continue
        screen.app.action_pane(number)
        await painted(screen)
        screen.app._change()  # once more, with the focus where it is by now
        await painted(screen)
        strips = screen.app.screen._compositor.render_strips()
        rows = [
            [
                (char, style)
                for segment in strip
                for style in [str(segment.style)]
                for char in segment.text
            ]
            for strip in strips
        ]
        for name in {*screen.shown_panes()} - found.keys():
            region = screen.app.query_one(f"#{name}").region
            found[name] = [row[region.x : region.right] for row in rows[region.y : region.bottom]]
        assert pane.NAME in found
    return found


MOMENTS = (1, 7, 20)


async def same_frames(shown, given, moments, folder, size=(160, 50)):
    """Show snapshots live while recording them, then the recording; compare pane for pane."""
    live = {}
    async with shown(source=Given(given), size=size) as screen:
        await screen.press("r", "escape")  # what is said of it takes a line
        before = 0
        for moment in moments:
            await screen.step(moment - before)
            before = moment
            live[moment] = await panes_of(screen)
        await screen.press("r")
        assert f" {moments[-1]} snapshots, " in screen.text
    path = recorded_in(folder)
    assert read_recording(path) == (given[: moments[-1]], "")
    async with shown(source=Replay(path), size=size) as screen:
        await screen.press("space", "0")
        await settle(screen)
        at = 1
        # Forwards and backwards: where it comes from must not be seen.
        for moment in (moments[-1], *moments[:-1]):
            screen.app.action_step(moment - at)
            at = moment
            await settle(screen)
            replayed = await panes_of(screen)
            for name in live[moment]:
                assert replayed[name] == live[moment][name], (moment, name)


@pytest.mark.parametrize("scenario", ["training", "fleet", "nogpu"])
async def test_a_replay_shows_pane_for_pane_what_was_live(shown, here, scenario):
    given = [*islice(snapshots(scenario), MOMENTS[-1])]
    await same_frames(shown, given, MOMENTS, here)


async def test_a_real_training_is_replayed_pane_for_pane(shown, here, recorded):
    sampled = next(
        number
        for number, snapshot in enumerate(recorded, 1)
        if any(part.detail for process in snapshot.processes for part in process.probe.devices)
    )
    moments = (sampled - 4, sampled, sampled + 9, len(recorded))
    await same_frames(shown, recorded, moments, here, size=(120, 40))


async def test_on_a_small_screen_too(shown, here, recorded):
    await same_frames(shown, recorded, (33, 50), here, size=(80, 24))


async def test_r_records_from_what_is_shown_on(shown, here):
    given = [*islice(snapshots("training"), 12)]
    async with shown(source=Given(given)) as screen:
        await screen.step(5)
        assert "rec" not in screen.lines[0]
        await screen.press("r")
        path = recorded_in(here)
        assert f"recording to ./{path.name}; r ends it" in screen.text
        assert "● rec" in screen.lines[0]
        await screen.step(3)
        await screen.press("r")
        assert "● rec" not in screen.lines[0]
        assert " 4 snapshots, " in screen.text
        assert f"vramtop replay {path.name}" in screen.text
        await screen.step(2)
    found, ending = read_recording(path)
    assert ending == ""
    assert [s.taken_at for s in found] == [s.taken_at for s in given[4:8]]
    assert found[1:] == given[5:8]
    past = found[0].processes[0].probe.history["cuda:0"]
    assert {point.at for point in past} >= {s.taken_at for s in given[:5]}


async def test_what_comes_while_the_screen_is_busy_or_paused_is_recorded(shown, here):
    given = [*islice(snapshots("nogpu"), 30)]
    async with shown(source=Given(given)) as screen:
        await screen.press("r", "space")
        await screen.step(10)
        await screen.step(20)
    found, ending = read_recording(recorded_in(here))
    assert (len(found), ending) == (30, "")  # leaving ends it in order


async def test_a_full_disk_ends_the_recording_and_nothing_else(shown, here):
    given = [*islice(snapshots("fleet"), 23)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with shown(source=Given(given)) as screen:
        await screen.press("r")
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
            recorder = screen.app._recorder
            await screen.step(19)
            await until(screen, lambda: recorder.problem)
            await screen.step()
            await until(screen, lambda: screen.app._recorder is None)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        await until(screen, lambda: "recording: stopped after" in screen.text)
        assert "● rec" not in screen.lines[0]
        assert "File too large" in screen.text
        before = screen.lines
        await screen.step(3)
        assert screen.lines != before
        await screen.press("p")
        assert "File too large" in screen.text
    found, _ = read_recording(recorded_in(here))
    assert found == given[: len(found)]
    assert found


async def test_where_nothing_can_be_written_a_line_says_so(shown, here, monkeypatch):
    monkeypatch.setattr("vramtop.tui.recorded.strftime", lambda *_: "/proc/no.vramtop")
    async with shown() as screen:
        await screen.press("r")
        assert "not recording: /proc/no.vramtop: " in screen.text
        assert "● rec" not in screen.lines[0]


@pytest.fixture(scope="module")
def two_minutes(tmp_path_factory):
    """A recording of a made-up training."""
    path = tmp_path_factory.mktemp("recorded") / "a.vramtop"
    return write(path, islice(snapshots("training"), 130))


@pytest.fixture
def replay(two_minutes):
    return Replay(two_minutes)


async def test_keys_go_back_and_forth_and_the_status_line_says_where(shown, replay):
    async with shown(source=replay) as screen:
        await screen.press("space")
        await settle(screen)
        assert "⏸ 1× 00:0" in screen.lines[0]
        await screen.press("0")
        for keys, where in (
            ("full_stop", "00:10"),
            ("right_curly_bracket", "01:10"),
            ("right_curly_bracket", "02:09"),
            ("comma", "01:59"),
            ("left_curly_bracket", "00:59"),
            ("right_square_bracket", "01:00"),
            ("left_square_bracket", "00:59"),
            ("0", "00:00"),
            ("dollar_sign", "02:09"),
        ):
            await screen.press(keys)
            await settle(screen)
            assert f" 1× {where} / 02:09" in screen.lines[0]
        assert "■" in screen.lines[0]
        for key, speed in (("greater_than_sign", "2×"), ("plus", "4×"), ("less_than_sign", "2×")):
            await screen.press(key)
            await settle(screen)
            assert f" {speed} " in screen.lines[0]


async def test_ages_are_those_of_then(shown, replay):
    async with shown(source=replay) as screen:
        await screen.press("space", "0", "full_stop", "right_square_bracket")
        await settle(screen)
        # The made-up GPU is lost five seconds after the beginning.
        assert "values 6s old" in screen.text
        await screen.press("right_curly_bracket")
        await settle(screen)
        assert "values 1m06s old" in screen.text
        await screen.press("0")
        await settle(screen)
        assert "lost" not in screen.text


async def test_in_a_replay_nothing_acts_on_processes(shown, replay):
    async with shown(source=replay, size=(160, 70)) as screen:
        await screen.press("space", "T")
        assert "Send SIGTERM" not in screen.text
        said = "a replay shows what was: no signals, no attach, nothing to record"
        for key in "TKIar":
            await screen.press("0")
            await settle(screen)
            assert said not in screen.text
            await screen.press(key)
            assert said in screen.text
        assert "rec" not in screen.lines[0]
        await screen.press("question_mark")
        for words in ("ten seconds back", "twice as fast", "to the end"):
            assert words in screen.text
        for words in ("ask it to end", "put the probe into it", "read more often", "to a file"):
            assert words not in screen.text


async def test_on_a_small_screen_the_footer_has_what_moves_a_replay(shown, replay):
    async with shown(source=replay, size=(80, 24)) as screen:
        await screen.press("space", "0")
        await settle(screen)
        keys = " q Quit  ? Help  space {}  , −10 s  . +10 s  > + Faster  / Filter  s Sort"
        assert screen.lines[-1].rstrip() == keys.format("Resume")
        await screen.press("dollar_sign")
        await settle(screen)
        assert screen.lines[-1].rstrip() == keys.format("Restart")


async def test_where_nothing_can_be_attached_to_no_key_for_it_is_named(shown, recorded, tmp_path):
    (number, bare), *_ = (
        (number, snapshot)
        for number, snapshot in enumerate(recorded)
        if any(process.probe.state == "none" for process in snapshot.processes)
    )
    assert bare.processes[0].probe.state == "none"
    path = write(tmp_path / "a.vramtop", recorded[number : number + 1])
    async with shown(source=Replay(path)) as screen:
        await settle(screen)
        assert "no probe: next time start it with `vramtop run -- …`" in screen.words
        await screen.press("enter")
        assert "none: next time start it with" in screen.words
        assert "press a" not in screen.words


async def test_the_end_of_a_cut_recording_is_said(shown, tmp_path):
    path = write(tmp_path / "a.vramtop", islice(snapshots("nogpu"), 30))
    path.write_bytes(path.read_bytes()[:-400])
    async with shown(source=Replay(path)) as screen:
        await screen.press("space")
        await settle(screen)
        assert "cut after" not in screen.text
        await screen.press("dollar_sign")
        await settle(screen)
        said = "recording: the recording ends in the middle of a snapshot: cut after 29"
        await until(screen, lambda: said in screen.text)
        await screen.press("0")
        await until(screen, lambda: "cut after" not in screen.text)
