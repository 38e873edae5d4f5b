"""Playing a recording: every moment is the one of the live run, from wherever it is reached."""

import random
import threading
import time
from itertools import islice

import pytest

from tests.core.leaking_fake import leaking_snapshot
from vramtop.core.fleet import Fleet, reduce
from vramtop.core.outlook import foresee
from vramtop.errors import FileUnreadable
from vramtop.sources.fake import snapshots
from vramtop.sources.recording.index import scan
from vramtop.sources.recording.playback import Playback
from vramtop.sources.recording.recorder import Recorder, with_past
from vramtop.sources.recording.replay import Replay, fleet_at
from vramtop.sources.recording.writer import Writer

COUNT = 180


def write(path, given):
    with Writer(path) as writer:
        for snapshot in given:
            writer.write(snapshot)
    return path


def lived(given):
    """The fleets of the live run after each snapshot."""
    fleets = [Fleet()]
    for snapshot in given:
        fleets.append(reduce(fleets[-1], snapshot))
    return fleets[1:]


class Playing:
    """A replay, and ways to wait for it."""

    def __init__(self, path, *, halted=True):
        self.replay = Replay(path)
        self._told = threading.Condition()
        if halted:
            self.replay.toggle_pause()
        self.replay.start(self._notify)

    def _notify(self):
        with self._told:
            self._told.notify_all()

    def wait(self, condition, timeout_s=30.0):
        with self._told:
            assert self._told.wait_for(lambda: condition(self.replay.shown[1]), timeout_s)
        return self.replay.shown

    def settled(self):
        return self.wait(lambda playback: not playback.is_seeking)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.replay.stop()


@pytest.fixture(scope="module")
def given():
    return [*islice(snapshots("training"), COUNT)]


@pytest.fixture(scope="module")
def path(tmp_path_factory, given):
    return write(tmp_path_factory.mktemp("replay") / "a.vramtop", given)


def test_it_begins_at_the_first_snapshot_and_knows_its_length(path, given):
    with Playing(path) as playing:
        fleet, playback = playing.settled()
        assert fleet == reduce(Fleet(), given[0])
        assert playback.position_s == 0
        assert playback.length_s == COUNT - 1
        assert playback.text == "⏸ 1× 00:00 / 02:59"


def test_wherever_it_goes_the_fleet_is_that_of_the_live_run(path, given):
    fleets = lived(given)
    rng = random.Random(3)
    with Playing(path) as playing:
        playing.settled()
        at = 0
        for _ in range(40):
            move = rng.choice(("seek", "seek", "step", "end"))
            if move == "seek":
                by = rng.choice((-60, -10, 10, 60))
                playing.replay.seek(by)
                at += by
            elif move == "step":
                by = rng.choice((-1, 1))
                playing.replay.step(by)
                at += by
            else:
                last = rng.random() < 0.5
                playing.replay.seek_end(last=last)
                at = COUNT if last else 0
            at = min(max(at, 0), COUNT - 1)
            if rng.random() < 0.3:
                continue  # the next key comes before this one is done
            fleet, playback = playing.settled()
            assert playback.position_s == at
            assert fleet == fleets[at]
        assert len(playing.replay._checkpoints._spread) <= 48
        assert len(playing.replay._checkpoints._recent) <= 24


def test_a_jump_is_no_second_reading_of_the_file(path, given):
    with Playing(path) as playing:
        playing.settled()
        playing.replay.seek_end(last=True)
        playing.settled()
        for back in (-10, -60, -60):
            playing.replay.seek(back)
            _, playback = playing.settled()
            near = playing.replay._checkpoints.before(int(playback.position_s) + 1)
            assert near.count > playback.position_s - 10


def test_it_plays_in_time_and_faster(path, given):
    with Playing(path, halted=False) as playing:
        for _ in range(10):
            playing.replay.change_speed(1)
        began = time.monotonic()
        fleet, playback = playing.wait(lambda playback: playback.at_end)
        took_s = time.monotonic() - began
        assert playback.speed == 64
        assert took_s > 0.8 * (COUNT - 1) / 64  # not as fast as it can
        assert fleet == lived(given)[-1]
        assert playback.text == "■ 64× 02:59 / 02:59"
        playing.replay.toggle_pause()  # and from the beginning
        playing.wait(lambda playback: playback.position_s < 100)


def test_halted_it_stays_and_a_slower_speed_has_an_end(path):
    with Playing(path) as playing:
        playing.replay.seek(10)
        before = playing.settled()
        for _ in range(10):
            playing.replay.change_speed(-1)
        time.sleep(0.2)
        fleet, playback = playing.replay.shown
        assert playback.speed == 0.25
        assert fleet is before[0]


def test_time_in_which_nobody_recorded_is_not_waited_for(tmp_path):
    path = write(tmp_path / "a", islice(snapshots("nogpu"), 5))
    write(path, islice(snapshots("nogpu", start_s=1_760_900_000.0), 5))
    with Playing(path) as playing:
        _, playback = playing.settled()
        assert playback.length_s == 4 + 60 + 4


def test_a_clock_that_was_set_back_is_no_trouble(tmp_path):
    path = write(tmp_path / "a", islice(snapshots("nogpu"), 5))
    write(path, islice(snapshots("nogpu"), 5))
    with Playing(path) as playing:
        playing.settled()
        playing.replay.seek_end(last=True)
        _, playback = playing.settled()
        assert playback.position_s == playback.length_s == 8


def test_a_cut_recording_plays_up_to_the_cut_and_says_so(path, given, tmp_path):
    data = path.read_bytes()
    cut = tmp_path / "cut"
    cut.write_bytes(data[: len(data) // 2])
    with Playing(cut) as playing:
        playing.settled()
        playing.replay.seek_end(last=True)
        fleet, playback = playing.settled()
        count = int(playback.position_s) + 1
        assert playback.at_end
        assert playback.ending.endswith(f"cut after {count} snapshots")
        assert playback.text.endswith(" cut")
        assert fleet == lived(given[:count])[-1]


def test_what_the_index_has_promised_may_be_unreadable(tmp_path, monkeypatch):
    from vramtop.sources.recording import writer

    given = [*islice(snapshots("nogpu"), 6)]
    encode = writer.encode

    def spoiled(snapshot, written):
        value = encode(snapshot, written)
        return value if snapshot is not given[3] else {**value, "host": 5}

    monkeypatch.setattr(writer, "encode", spoiled)
    path = write(tmp_path / "a", given)
    with Playing(path) as playing:
        assert playing.settled()[1].length_s == 5
        playing.replay.seek_end(last=True)
        fleet, playback = playing.settled()
        assert fleet == lived(given[:3])[-1]
        assert (playback.position_s, playback.length_s) == (2, 2)
        assert "damaged after 3 snapshots" in playback.ending


def test_a_fault_of_ours_is_an_end_that_is_said(path, monkeypatch):
    from vramtop.sources.recording import replay

    def broken(fleet, snapshot):
        if snapshot.taken_at >= 1_760_000_020.0:
            raise ZeroDivisionError("of a test")
        return reduce(fleet, snapshot)

    monkeypatch.setattr(replay, "reduce", broken)
    with Playing(path) as playing:
        playing.settled()
        playing.replay.seek(10)
        assert playing.settled()[1].position_s == 10
        playing.replay.seek_end(last=True)
        _, playback = playing.settled()
        assert playback.at_end
        assert playback.ending == "internal error: ZeroDivisionError: of a test"
        assert 10 <= playback.position_s < 20
        playing.replay.step(-1)
        assert playing.settled()[1].position_s == playback.position_s - 1


def breaks_at(monkeypatch, taken_at):
    """Let the reducer fail on a snapshot; how often it did."""
    from vramtop.sources.recording import replay

    failed = []

    def broken(fleet, snapshot):
        if snapshot.taken_at >= taken_at:
            failed.append(snapshot)
            raise ZeroDivisionError("of a test")
        return reduce(fleet, snapshot)

    monkeypatch.setattr(replay, "reduce", broken)
    return failed


def test_a_fault_of_ours_is_said_while_it_plays_too(path, given, monkeypatch):
    breaks_at(monkeypatch, given[20].taken_at)
    with Playing(path, halted=False) as playing:
        for _ in range(6):
            playing.replay.change_speed(1)
        fleet, playback = playing.wait(lambda playback: playback.at_end)
        assert playback.ending == "internal error: ZeroDivisionError: of a test"
        assert fleet.snapshot.taken_at < given[20].taken_at


def test_a_fault_of_ours_is_not_met_over_and_over(path, given, monkeypatch):
    with Playing(path) as playing:
        playing.settled()
        playing.replay.seek_end(last=True)
        playing.settled()
        failed = breaks_at(monkeypatch, 0.0)
        playing.replay.seek_end(last=False)
        fleet, playback = playing.settled()
        assert playback.ending == "internal error: ZeroDivisionError: of a test"
        assert fleet == lived(given)[-1]
    assert len(failed) == 1


def test_the_first_picture_does_not_wait_for_the_index(path, given, monkeypatch):
    from vramtop.sources.recording import replay

    may_go_on = threading.Event()

    def slow(*arguments):
        assert may_go_on.wait(30)
        return scan(*arguments)

    monkeypatch.setattr(replay, "scan", slow)
    with Playing(path) as playing:
        try:
            fleet, playback = playing.replay.shown
            assert fleet == reduce(Fleet(), given[0])
            assert playback.is_seeking
            for key in (playing.replay.seek, playing.replay.step):
                key(10)
        finally:
            may_go_on.set()
        fleet, playback = playing.settled()
        assert fleet == reduce(Fleet(), given[0])
        assert playback.text == "⏸ 1× 00:00 / 02:59"


def test_a_snapshot_without_a_time_is_damage(tmp_path, monkeypatch):
    from vramtop.sources.recording import writer

    given = [*islice(snapshots("nogpu"), 5)]
    encode = writer.encode

    def spoiled(snapshot, written):
        value = encode(snapshot, written)
        return value if snapshot is not given[3] else {**value, "taken_at": "noon"}

    monkeypatch.setattr(writer, "encode", spoiled)
    path = write(tmp_path / "a", given)
    with Playing(path) as playing:
        playing.settled()
        playing.replay.seek_end(last=True)
        fleet, playback = playing.settled()
        assert fleet == lived(given[:3])[-1]
        assert playback.at_end
        assert playback.ending.startswith("the recording is damaged after 3 snapshots")


def test_a_recording_without_snapshots_is_refused(tmp_path):
    path = write(tmp_path / "a", ())
    with pytest.raises(FileUnreadable, match="a: there is no snapshot in it"):
        Replay(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FileUnreadable, match="a: the recording was not ended in order, or"):
        Replay(path)
    assert fleet_at(path, None)[0].is_waiting


def test_one_moment_without_a_screen(path, given):
    fleets = lived(given)
    assert fleet_at(path, None) == (foresee(fleets[-1]), "")
    assert fleet_at(path, 60.5)[0] == foresee(fleets[60])
    assert fleet_at(path, 0)[0] == foresee(fleets[0])
    assert fleet_at(path, 1e9)[0] == foresee(fleets[-1])
    assert fleet_at(path, -1)[0].is_waiting


def test_forecasts_are_those_of_then(tmp_path):
    given = [leaking_snapshot(0), *islice(snapshots("nogpu"), 1, 8)]
    fleets = lived(given)
    assert foresee(fleets[0]).forecasts
    path = write(tmp_path / "a", given)
    for at in range(8):
        assert fleet_at(path, at)[0].forecasts == foresee(fleets[at]).forecasts


def test_long_recordings_show_hours():
    playback = Playback(3725.0, 36_000.0, is_seeking=False)
    assert playback.text == "▶ 1× 1:02:05 / 10:00:00"


def test_a_recording_begun_late_has_the_past(tmp_path, given):
    fleet = lived(given[:100])[-1]
    recorder = Recorder(tmp_path / "a")
    recorder.take(with_past(fleet))
    for snapshot in given[100:110]:
        recorder.take(snapshot)
    recorder.close()
    assert (recorder.count, recorder.problem, recorder.dropped) == (11, "", 0)
    replayed, _ = fleet_at(tmp_path / "a", None)
    live = lived(given[:110])[-1]
    assert {key: [*history] for key, history in replayed.histories.items()} == {
        key: [*history] for key, history in live.histories.items()
    }
    assert replayed.first == live.first
