"""Questions on a thread: the newest counts, errors are answers, leaving is quick."""

import os
import threading
import time

import pytest

from vramtop import predict
from vramtop.errors import UsageError, VramtopError
from vramtop.estimator.workload import Model, Workload
from vramtop.predict.background import Background, Dropped
from vramtop.predict.yielding import Yielding

SOON_S = 20


class Told:
    """Counts what it is told, and lets a test wait for the next."""

    def __init__(self):
        self._event = threading.Event()

    def __call__(self):
        self._event.set()

    def until(self, holds):
        end = time.monotonic() + SOON_S
        while not holds():
            assert time.monotonic() < end, "nothing came"
            self._event.wait(0.5)
            self._event.clear()


@pytest.fixture
def background():
    told = Told()
    made = Background(told, idle_s=0.1)
    made.told = told
    yield made
    made.close()


def answered(background, key):
    background.told.until(lambda: background.answer_of(key) is not None)
    return background.answer_of(key)


class Gate:
    """Work that waits to be let on."""

    def __init__(self, answer):
        self.answer = answer
        self.begun, self.on = threading.Event(), threading.Event()

    def __call__(self, tracer, progress):
        self.begun.set()
        progress("step 1 of 2", 0.5)
        assert self.on.wait(SOON_S)
        return self.answer


def test_an_answer_comes_from_another_thread(background):
    background.ask("where", lambda tracer, progress: threading.current_thread().name)
    assert answered(background, "where") == "vramtop-background"
    assert background.progress == ""


def test_progress_is_told_while_it_runs(background):
    gate = Gate("done")
    background.ask("slow", gate)
    background.told.until(lambda: background.progress == "step 1 of 2 50 %")
    gate.on.set()
    assert answered(background, "slow") == "done"


def test_the_newest_question_replaces_one_that_waits(background):
    first, asked = Gate("first"), []
    background.ask("a", first)
    assert first.begun.wait(SOON_S)
    background.ask("b", lambda tracer, progress: asked.append("b"))
    background.ask("c", lambda tracer, progress: asked.append("c") or "third")
    assert background.progress == "waiting"
    first.on.set()
    assert answered(background, "c") == "third"
    assert asked == ["c"]
    assert background.answer_of("a") is None, "nobody wanted it any more"


def test_what_is_wanted_again_while_it_runs_is_not_asked_twice(background):
    first = Gate("first")
    background.ask("a", first)
    assert first.begun.wait(SOON_S)
    background.ask("b", lambda tracer, progress: "second")
    background.ask("a", lambda tracer, progress: "asked twice")
    first.on.set()
    assert answered(background, "a") == "first"
    assert background.answer_of("b") is None


def test_what_was_dropped_is_not_kept(background):
    first = Gate("first")
    background.ask("a", first)
    assert first.begun.wait(SOON_S)
    background.drop()
    assert background.progress == ""
    first.on.set()
    background.ask("b", lambda tracer, progress: "second")
    assert answered(background, "b") == "second"
    assert background.answer_of("a") is None


def test_a_known_answer_stays_and_old_ones_go(background):
    for number in range(12):
        background.ask(str(number), lambda tracer, progress, number=number: number + 100)
        assert answered(background, str(number)) == number + 100
    background.ask("11", lambda tracer, progress: "again")
    assert background.answer_of("11") == 111
    assert background.answer_of("0") is None


def test_errors_are_answers(background):
    def refuse(tracer, progress):
        raise UsageError("--batch 0: it must be 1 or more")

    background.ask("usage", refuse)
    assert isinstance(answered(background, "usage"), UsageError)
    background.ask("ours", lambda tracer, progress: 1 // 0)
    error = answered(background, "ours")
    assert isinstance(error, VramtopError)
    assert "ZeroDivisionError" in str(error)
    background.ask("after", lambda tracer, progress: "goes on")
    assert answered(background, "after") == "goes on"


def test_leaving_does_not_wait_for_work():
    gate = Gate("never")
    background = Background(lambda: None)
    background.ask("slow", gate)
    assert gate.begun.wait(SOON_S)
    began = time.monotonic()
    background.close()
    assert time.monotonic() - began < 1
    background.ask("late", gate)
    assert background.progress == ""
    gate.on.set()


def tiny(layers=2):
    config = {
        "model_type": "gpt2", "n_embd": 32, "n_head": 2, "n_layer": layers, "n_positions": 64,
        "vocab_size": 96,
    }  # fmt: skip
    return Workload(Model("tiny", config), sequence=16, precision="fp32")


def pid_of(background):
    running = background._tracer._running
    return running[0].pid if running else None


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_real_tracer_answers_goes_when_idle_and_comes_again(background, monkeypatch, tmp_path):
    pytest.importorskip("transformers")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pids = []

    def work(layers):
        def traced(tracer, progress):
            made = predict.predictor(tiny(layers), "trace", progress, tracer)
            pids.append(pid_of(background))
            return made

        return traced

    background.ask("two", work(2))
    footprint = answered(background, "two").at(4)
    assert footprint.method == "trace"
    background.told.until(lambda: pid_of(background) is None)  # idle for 0.1 s here
    assert not is_alive(pids[0])
    background.ask("three", work(3))
    three = answered(background, "three").at(4)
    assert three.peak_allocated_bytes > footprint.peak_allocated_bytes
    assert pids[1] != pids[0]


def test_leaving_ends_a_tracer_that_works(monkeypatch, tmp_path):
    pytest.importorskip("transformers")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    background = Background(lambda: None)
    background.ask(
        "trace", lambda tracer, progress: predict.predictor(tiny(), "trace", progress, tracer)
    )
    end = time.monotonic() + SOON_S
    while (pid := pid_of(background)) is None:
        assert time.monotonic() < end
        time.sleep(0.005)
    began = time.monotonic()
    background.close()
    assert time.monotonic() - began < 1
    assert not is_alive(pid)


def test_work_that_was_given_up_is_done_again_where_it_is_wanted_again(background):
    begun, on, runs = threading.Event(), threading.Event(), []

    def work(tracer, progress):
        runs.append("run")
        if len(runs) == 1:
            begun.set()
            assert on.wait(SOON_S)
            raise Dropped("nobody waits for it any more")
        return "done"

    background.ask("a", work)
    assert begun.wait(SOON_S)
    assert background.wants("a")
    background.drop()
    assert not background.wants("a")
    background.ask("a", work)
    on.set()
    assert answered(background, "a") == "done"
    assert len(runs) == 2


def test_a_judgement_stops_between_two_replays():
    from vramtop.estimator.result import COMPONENTS, Footprint

    class Replays:
        asked = 0

        def at(self, batch):
            self.asked += 1
            return Footprint("trace", dict.fromkeys(COMPONENTS, 0), (), 1, 1, batch, "forward")

        def process_bytes(self, batch):
            return batch

        def with_allocator(self, allocator):
            return self

        def within(self, batch, usable_bytes):
            return self.at(batch)

    predictor = Replays()
    yielding = Yielding(predictor, lambda: predictor.asked < 3)
    assert yielding.at(7).process_bytes == 7
    assert yielding.within(8, 1).process_bytes == 8
    assert yielding.process_bytes(9) == 9
    assert yielding.with_allocator(None).at(3).process_bytes == 3
    for ask in (lambda: yielding.at(1), lambda: yielding.within(1, 1)):
        with pytest.raises(Dropped):
            ask()
    assert predictor.asked == 3
