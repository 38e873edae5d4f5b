"""The climb as a function of time: each moment worked out by hand, and drawn as text."""

import dataclasses
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramtop.draw.blocks import stacked_bar
from vramtop.estimator.result import COMPONENTS, Footprint, PhaseUse
from vramtop.estimator.sweep import Sweep
from vramtop.estimator.workload import Device, Model, Workload
from vramtop.tui.scene import resting, scene, script
from vramtop.tui.widgets.gauge import held_parts

TOY = Workload(Model("toy", {"model_type": "toy"}), device=Device("toy card", 100))


class Predicted:
    """20 parameters, 10 context; a batch makes 20 activations, 2 fit below 80."""

    def process_bytes(self, batch):
        return 30 + 20 * batch

    def at(self, batch):
        components = dict.fromkeys(COMPONENTS, 0)
        components |= {"parameter": 20, "activation": 20 * batch, "context": 10}
        peak = 20 + 20 * batch
        phases = (
            PhaseUse("load", 20, 20),
            PhaseUse("forward", peak, peak),
            PhaseUse("backward", 30, peak),
            PhaseUse("step", 30, 40),
            PhaseUse("zero_grad", 20, 30),
        )
        return Footprint("closed-form", components, phases, peak, peak, peak + 10, "forward")


def swept(largest=2, last=5, usable=80):
    return Sweep(TOY, Predicted(), (), last, usable, largest, largest)


PLAY = script(swept())


def test_every_batch_up_to_the_cliff_then_the_one_that_dies():
    assert [beat.batch for beat in PLAY.beats] == [1, 2, 3]
    assert [stroke.name for stroke in PLAY.beats[0].strokes] == [
        "forward",
        "backward",
        "step",
        "zero_grad",
    ]
    assert [stroke.name for stroke in PLAY.beats[2].strokes] == ["forward"]
    assert PLAY.rest_batch == 2


def test_many_batches_are_climbed_in_growing_steps():
    batches = [beat.batch for beat in script(swept(largest=500, last=600)).beats]
    assert batches[0] == 1
    assert batches[-2:] == [500, 501]
    assert len(batches) <= 16
    steps = [b - a for a, b in pairwise(batches[:-1])]
    assert steps == sorted(steps)


def test_forward_fills_backward_drains():
    first = PLAY.beats[1]
    forward, backward, _, zero_grad = first.strokes

    def held(stroke, share):
        return scene(PLAY, stroke.begin_s + share * stroke.length_s).allocated_bytes

    assert held(forward, 0.0) == 20  # what zero_grad of the step before has left
    assert held(forward, 0.45) == pytest.approx(40, abs=1)
    assert held(forward, 0.95) == 60
    assert held(backward, 0.2) == 60
    assert held(backward, 0.6) == pytest.approx(45, abs=1)
    assert held(zero_grad, 0.999) == pytest.approx(20, abs=1)


def test_the_cache_keeps_what_the_batch_has_reserved():
    beat = PLAY.beats[1]
    last = scene(PLAY, beat.begin_s + 0.99 * beat.length_s)
    assert last.reserved_bytes == 60
    assert last.process_bytes == 70
    assert last.allocated_bytes < 25


def test_the_batch_that_dies_fills_the_device_and_no_more():
    before = scene(PLAY, PLAY.flash_s - 0.001)
    assert before.batch == 3
    assert before.act == "climb"
    assert before.process_bytes == 80
    assert PLAY.fall.requested_bytes == 10  # 90 are wanted, 80 are there


def test_the_request_flashes_then_falls_then_all_rests_on_the_maximum():
    lit = [scene(PLAY, PLAY.flash_s + at / 100).request_is_lit for at in range(120)]
    changes = sum(a != b for a, b in pairwise(lit))
    assert changes == 7  # four flashes
    falls = [scene(PLAY, PLAY.flash_s + 1.2 + at / 10).fallen for at in range(14)]
    assert falls == sorted(falls)
    assert falls[0] == pytest.approx(0.0, abs=0.01)
    assert falls[-1] < 1.0
    last = scene(PLAY, PLAY.end_s)
    assert last == resting(PLAY) == scene(PLAY, PLAY.end_s + 1000)
    assert (last.act, last.batch, last.phase, last.fallen) == ("rest", 2, "", 1.0)
    assert last.process_bytes == 70


def test_without_a_cliff_it_climbs_and_rests():
    play = script(Sweep(TOY, Predicted(), (), 8, None, None, None))
    assert play.fall is None
    assert play.flash_s == play.end_s
    last = scene(play, play.end_s)
    assert (last.act, last.batch, last.fallen) == ("rest", 8, None)


def test_where_nothing_runs_the_first_batch_dies():
    play = script(swept(largest=0, usable=35))
    assert [beat.batch for beat in play.beats] == [1]
    assert scene(play, play.flash_s).act == "flash"
    assert resting(play).batch == 1


def test_a_predictor_without_phases_plays_its_peak():
    class Fitted(Predicted):
        def at(self, batch):
            return dataclasses.replace(super().at(batch), phases=())

    play = script(Sweep(TOY, Fitted(), (), 5, 80, 2, 2))
    moments = [scene(play, 0.01 * at).allocated_bytes for at in range(240)]
    assert max(moments) == pytest.approx(60, abs=2)


@given(st.floats(0, 20))
def test_nothing_exceeds_the_device_at_any_time(at_s):
    shown = scene(PLAY, at_s)
    assert 0 <= shown.allocated_bytes <= shown.reserved_bytes
    assert shown.process_bytes <= 80
    assert 0 <= shown.phase_done <= 1


def frame(at_s):
    """The gauge of a moment, a cell for each 2 bytes."""
    shown = scene(PLAY, at_s)
    parts = held_parts(shown, shown.footprint.components)
    parts["free"] = 80 - sum(parts.values())
    text = "".join(run.text for run in stacked_bar(list(parts.items()), 40, mono=True))
    return f"{shown.batch} {shown.phase:<9} {text.rstrip()}"


def test_the_frames_of_a_climb():
    """█ parameters, ░ what the step makes, · what the allocator has cached, o the context."""
    times = (0.0, 0.2, 0.42, 0.6, 0.8, 0.95, 1.19, 1.2, 1.7, 2.4, 3.0, 3.59)
    assert [frame(at) for at in times] == [
        "1 forward   ██████████ooooo",
        "1 forward   ██████████░░░░░ooooo",
        "1 backward  ██████████░░░░░░░░░░ooooo",
        "1 backward  ██████████░░░░░░░░░·ooooo",
        "1 backward  ██████████░░░░░░░···ooooo",
        "1 step      ██████████░░░░░░░░··ooooo",
        "1 zero_grad ██████████░·········ooooo",
        "2 forward   ██████████ooooo",
        "2 backward  ██████████░░░░░░░░░░░░░░░░░░░░ooooo",
        "3 forward   ██████████ooooo",
        "3 forward   ██████████░░░░░░░░░░░░░░ooooo",
        "3 forward   ██████████░░░░░░░░░░░░░░░░░░░░░░░░░ooooo",
    ]
