"""The service: never blocks, asks when the question changes and not before, and says why not."""

import dataclasses
import itertools
import threading
import time
from contextlib import contextmanager

import pytest

from tests.tui.predictions import Expecting, of_detail
from vramtop.core.fleet import Fleet, reduce
from vramtop.errors import UsageError
from vramtop.predict import predictions
from vramtop.predict.predictions import Predictions, of_fleet
from vramtop.sources.fake import snapshots

SOON_S = 20


class Asked:
    """Stands where ``expect`` and ``signature`` do: counts, and answers when the test lets it."""

    def __init__(self, monkeypatch):
        self.count = 0
        self.question = "one"
        self.on = threading.Event()
        self.on.set()
        self.answer = lambda process, torch_device: Expecting(
            of_detail(process.probe.devices[0].detail)
        )
        monkeypatch.setattr(predictions, "expect", self._expect)
        monkeypatch.setattr(predictions, "signature", lambda *_: self.question)

    def _expect(self, process, torch_device, devices, observed, progress, tracer):
        self.count += 1
        progress("step 1 of 2", 0.4)
        assert self.on.wait(SOON_S)
        return self.answer(process, torch_device)


@pytest.fixture
def asked(monkeypatch):
    return Asked(monkeypatch)


@pytest.fixture
def service():
    told = threading.Event()
    made = Predictions(told.set)
    made.told = told
    yield made
    made.close()


def fleet_of(snapshot):
    return reduce(Fleet(), snapshot)


@pytest.fixture
def training():
    """(fleet, the process that trains)."""
    fleet = fleet_of(next(snapshots("training")))
    return fleet, next(p for p in fleet.snapshot.processes if p.probe.devices)


def until(service, process, fleet, holds):
    end = time.monotonic() + SOON_S
    while True:
        service.told.clear()
        made = service.of(process, "cuda:0", fleet)
        if holds(made):
            return made
        assert time.monotonic() < end, made
        service.told.wait(0.2)


def test_it_answers_at_once_with_progress_and_later_with_the_comparison(asked, service, training):
    fleet, process = training
    asked.on.clear()
    made = until(service, process, fleet, lambda made: "step 1 of 2" in made.progress)
    assert made.progress == "step 1 of 2 40 %"
    assert (made.comparison, made.problem) == (None, "")
    asked.on.set()
    made = until(service, process, fleet, lambda made: made.comparison)
    assert not made.comparison.differs
    assert made.progress == ""
    for _ in range(5):
        service.of(process, "cuda:0", fleet)
    assert asked.count == 1


def with_batch(process, batch, tokens=1024):
    (part,) = process.probe.devices
    detail = dataclasses.replace(part.detail, batch_shapes=((batch, tokens),))
    part = dataclasses.replace(part, detail=detail)
    probe = dataclasses.replace(process.probe, devices=(part,))
    return dataclasses.replace(process, probe=probe)


def test_another_batch_is_served_without_another_trace(asked, service, training):
    fleet, process = training
    answer = Expecting(of_detail(process.probe.devices[0].detail))
    asked.answer = lambda *_: answer
    until(service, process, fleet, lambda made: made.comparison)
    for batch in (3, 5, 4, 7):
        service.of(with_batch(process, batch), "cuda:0", fleet)
    assert answer.asked[-4:] == [3, 5, 4, 7]
    assert asked.count == 1


def test_a_question_that_changes_every_tick_is_answered_now_and_then(
    asked, service, training, monkeypatch
):
    fleet, process = training
    number = itertools.count()
    monkeypatch.setattr(predictions, "signature", lambda *_: str(next(number)))
    until(service, process, fleet, lambda made: made.comparison)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        service.of(process, "cuda:0", fleet)
        time.sleep(0.01)
    assert asked.count < 20, "fifty ticks"


def test_the_answer_before_stays_while_a_newer_one_is_made(asked, service, training):
    fleet, process = training
    until(service, process, fleet, lambda made: made.comparison)
    asked.on.clear()
    asked.question = "two"
    made = until(service, process, fleet, lambda made: made.progress)
    assert made.comparison
    asked.on.set()
    until(service, process, fleet, lambda made: not made.progress)
    assert asked.count == 2


def test_a_step_of_another_length_is_not_held_against_it(asked, service, training):
    fleet, process = training
    until(service, process, fleet, lambda made: made.comparison)
    made = service.of(with_batch(process, 8, tokens=300), "cuda:0", fleet)
    assert made.comparison is None
    assert made.problem == "the last sampled step had 300 tokens a sample, the prediction 1024"


def inferring(process, name, **more):
    """The process after a step that was nothing but an evaluation or a generation."""
    (part,) = process.probe.devices
    phases = (dataclasses.replace(part.detail.phases[0], name=name),)
    part = dataclasses.replace(part, detail=dataclasses.replace(part.detail, phases=phases))
    probe = dataclasses.replace(process.probe, devices=(part,), **more)
    return dataclasses.replace(process, probe=probe)


@pytest.mark.parametrize("name", ["evaluation", "generation"])
@pytest.mark.parametrize("source", ["trace", "fitted"])
def test_an_evaluation_is_not_held_against_a_training_step(asked, service, training, name, source):
    fleet, process = training
    line = {"source": "fitted", "phases": ()} if source == "fitted" else {}
    answer = Expecting(of_detail(process.probe.devices[0].detail, **line))
    asked.answer = lambda *_: answer
    until(service, process, fleet, lambda made: made.comparison)
    made = service.of(inferring(process, name), "cuda:0", fleet)
    assert (made.expecting, made.comparison) == (answer, None)
    a = {"evaluation": "an evaluation", "generation": "a generation"}[name]
    assert made.problem == (f"the last recorded step is {a}; the prediction is of a training step")
    assert service.of(process, "cuda:0", fleet).comparison, "the next training step"


def test_a_process_that_only_infers_is_held_against_what_it_was_seen_to_need(
    asked, service, training
):
    fleet, process = training
    process = inferring(process, "evaluation", optimizers=())
    asked.answer = lambda *_: Expecting(
        of_detail(process.probe.devices[0].detail, source="fitted", phases=())
    )
    assert not until(service, process, fleet, lambda made: made.comparison).problem


def test_a_failure_is_a_sentence_until_the_question_changes(asked, service, training):
    fleet, process = training

    def fails(*_):
        raise UsageError("the prediction waits for a step sampled in detail")

    right, asked.answer = asked.answer, fails
    made = until(service, process, fleet, lambda made: made.problem)
    assert made.problem == "the prediction waits for a step sampled in detail"
    asked.answer, asked.question = right, "another"
    until(service, process, fleet, lambda made: made.comparison)


def test_what_cannot_be_predicted_is_said_without_asking(asked, service, training):
    fleet, process = training
    assert service.of(process, "cuda:5", fleet) is None
    bare = dataclasses.replace(process, probe=dataclasses.replace(process.probe, models=()))
    assert "no model was seen yet" in service.of(bare, "cuda:0", fleet).problem
    assert asked.count == 0


@contextmanager
def quickly(seconds):
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def test_leaving_waits_for_nothing(asked, service, training):
    fleet, process = training
    asked.on.clear()
    until(service, process, fleet, lambda made: made.progress != "waiting" and made.progress)
    with quickly(2.0):
        service.close()
    asked.on.set()


# One snapshot


def test_every_process_with_a_streaming_probe_has_one(asked):
    fleet = fleet_of(next(snapshots("fleet")))
    said = []
    made = of_fleet(fleet, said.append)
    streaming = [p.key for p in fleet.snapshot.processes if p.probe.state == "streaming"]
    assert list(made) == streaming
    assert all(found.comparison for found in made.values())
    assert all(line.startswith("predicting 50") for line in said)


def test_what_takes_too_long_is_a_problem(asked, training):
    fleet, process = training
    asked.on.clear()
    with quickly(5.0):
        made = of_fleet(fleet, lambda _: None, limit_s=0.3)
    asked.on.set()
    assert made[process.key].problem.startswith("not predicted within 0.3 s")


def test_ctrl_c_ends_it(asked, training):
    fleet, _ = training
    asked.on.clear()

    def interrupted(_):
        raise KeyboardInterrupt

    with quickly(5.0), pytest.raises(KeyboardInterrupt):
        of_fleet(fleet, interrupted)
    asked.on.set()
