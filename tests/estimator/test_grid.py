"""The map of verdicts, its axes, and the formulas that are drawn to a trace."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramtop.errors import UsageError
from vramtop.estimator import closed, judge
from vramtop.estimator.calibrated import Calibration, calibrated, calibration
from vramtop.estimator.catalog import find_gpu, find_model
from vramtop.estimator.explored import Explored, Place
from vramtop.estimator.grid import batch_axis, grid, sequence_axis
from vramtop.estimator.sweep import sweep
from vramtop.estimator.workload import Model, Workload

GPT2 = Workload(find_model("gpt2"), batch=8, sequence=512, device=find_gpu("4090"))


def swept(workload=GPT2):
    predictor = closed.predictor(workload)
    return sweep(judge.judge(predictor, workload), predictor)


def test_axes_double_with_steps_half_way_where_there_is_room():
    assert batch_axis(48, 20, (8, 36)) == (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 36, 48)
    assert batch_axis(48, 9, (8, 36)) == (1, 2, 4, 8, 16, 32, 36, 48)
    assert batch_axis(48, 6, (8, 36)) == (1, 4, 8, 16, 36, 48)
    assert sequence_axis(GPT2, 10) == (128, 192, 256, 384, 512, 768, 1024)
    short = dataclasses.replace(GPT2, sequence=16)  # eight times it is 128
    assert sequence_axis(short, 10) == (16, 24, 32, 48, 64, 96, 128)
    longest = dataclasses.replace(GPT2, sequence=1024)
    assert sequence_axis(longest, 10) == (128, 192, 256, 384, 512, 768, 1024)


@given(st.integers(1, 70_000), st.integers(3, 30), st.integers(1, 70_000))
def test_an_axis_has_room_grows_and_keeps_what_it_must(last, most, now):
    axis = batch_axis(last, most, (now,))
    assert len(axis) <= most
    assert list(axis) == sorted(set(axis))
    assert axis[-1] == last
    assert axis[0] == 1
    assert now > last or now in axis


def test_models_without_formulas_or_tokens_have_one_sequence():
    code = dataclasses.replace(GPT2, model=Model("mine", entry="train.py:make"))
    assert sequence_axis(code, 10) == (512,)
    vit = dataclasses.replace(GPT2, model=find_model("vit-base"), sequence=1)
    assert sequence_axis(vit, 10) == (1,)


def test_every_square_is_the_verdict_of_an_estimate_of_its_own():
    made = grid(swept(), Calibration(), (1, 16, 64), (256, 512, 1024))
    for sequence, row in zip(made.sequences, made.rows, strict=True):
        for batch, square in zip(made.batches, row, strict=True):
            workload = dataclasses.replace(GPT2, batch=batch, sequence=sequence)
            alone = judge.judge(closed.predictor(workload), workload)
            assert square.verdict == alone.verdict
            assert square.process_bytes == alone.footprint.process_bytes
    verdicts = [square.verdict for row in made.rows for square in row]
    assert {"fits", "oom"} <= set(verdicts)


def test_impossible_sequences_are_none_and_a_device_is_needed():
    made = grid(swept(), Calibration(), (1, 2), (512, 4096))  # GPT-2 ends at 1,024
    assert made.rows[1] == (None, None)
    with pytest.raises(UsageError, match="--gpu"):
        grid(swept(dataclasses.replace(GPT2, device=None)), Calibration(), (1,), (512,))


def test_the_present_row_agrees_with_the_cliff():
    home = dataclasses.replace(swept(), largest=40, safe=20)  # as a replay with little memory says
    (row,) = grid(home, Calibration(), (36, 37, 40, 41, 64), (512,)).rows
    assert [square.verdict for square in row] == ["tight", "tight", "tight", "tight", "oom"]
    assert row[2].process_bytes == home.usable_bytes < row[3].process_bytes


def test_formulas_drawn_to_a_trace_say_what_it_said():
    said = closed.predictor(GPT2).at(8)
    context = said.components["context"]
    reserved = round(said.peak_reserved_bytes * 1.25)
    context += 1 << 30  # as a live process may have more outside its allocator
    footprint = dataclasses.replace(
        said,
        method="trace",
        components={**said.components, "context": context},
        peak_reserved_bytes=reserved,
        process_bytes=reserved + context,
    )
    drawn = calibrated(GPT2, calibration(GPT2, footprint))
    assert drawn.process_bytes(8) == pytest.approx(footprint.process_bytes, abs=2)
    for batch in (1, 8, 40):
        whole = drawn.at(batch)
        assert whole.components["context"] == context
        assert sum(whole.components.values()) == whole.process_bytes
        assert whole.process_bytes == pytest.approx(drawn.process_bytes(batch), abs=20)
        assert max(phase.peak_bytes for phase in whole.phases) == pytest.approx(
            whole.peak_allocated_bytes, abs=20
        )


class TestExplored:
    def explored(self, workload=GPT2):
        predictor = closed.predictor(workload)
        return Explored(judge.judge(predictor, workload), predictor)

    def test_another_sequence_is_answered_as_if_it_were_asked(self):
        asked = dataclasses.replace(GPT2, sequence=1024)
        alone = judge.judge(closed.predictor(asked), asked)
        there = self.explored().sweep(1024)
        assert there.largest == alone.max_micro_batch
        assert there.at(8).process_bytes == alone.footprint.process_bytes

    def test_a_sequence_that_the_model_cannot_do_has_no_curve(self):
        explored = self.explored()
        assert explored.sweep(4096) is None
        assert explored.sequences == (128, 192, 256, 384, 512, 768, 1024)

    def test_effective_batches_go_by_what_surely_fits_at_the_place(self):
        explored = self.explored()
        ways = explored.accumulations(Place(8, 1024))
        safe = explored.sweep(1024).safe
        assert all(way.micro <= safe for way in ways)
        assert [way.effective for way in ways][-1] == 512

    def test_the_map_reaches_beyond_the_cliff_and_has_the_present_point(self):
        explored = self.explored()
        made = explored.grid(12)
        assert made.batches[-1] > explored.home.largest
        assert 8 in made.batches
        assert 512 in made.sequences
        assert made is explored.grid(12)
