from __future__ import annotations

import pytest

from vramtop.core.memory import Breakdown, Detail, Peak, Phase, Stage
from vramtop.core.phases import ceiling_bytes, peak_sentence, phase_rows, stage_rows

MIB = 1 << 20


def test_the_waterfall_of_a_step() -> None:
    phases = (
        Phase("forward", 40 * MIB, 83 * MIB, 84 * MIB, count=4),
        Phase("backward", 83 * MIB, 50 * MIB, 99 * MIB, count=4),
        Phase("step", 50 * MIB, 50 * MIB, None),
        Phase("zero_grad", 50 * MIB, 40 * MIB, 50 * MIB),
        Phase("other", 40 * MIB, 40 * MIB, None),
    )
    rows = phase_rows(Detail(1.0, 3, phases, None))
    assert [row.texts for row in rows] == [
        ("before the step", "–", "–", "40.0 MiB", "–"),
        ("forward ×4", "40.0 MiB", "+43.0 MiB", "83.0 MiB", "84.0 MiB"),
        ("backward ×4", "83.0 MiB", "-33.0 MiB", "50.0 MiB", "99.0 MiB"),
        ("optimizer step", "50.0 MiB", "0 B", "50.0 MiB", "–"),
        ("zero_grad", "50.0 MiB", "-10.0 MiB", "40.0 MiB", "50.0 MiB"),
        ("between phases", "40.0 MiB", "0 B", "40.0 MiB", "–"),
    ]
    assert [row.is_largest for row in rows] == [False, False, True, False, False, False]
    assert [row.phase for row in rows] == [None, *phases]


def test_a_phase_without_a_known_peak_may_be_the_largest() -> None:
    phases = (Phase("forward", 1, 9, None), Phase("backward", 9, 1, 8))
    assert [row.is_largest for row in phase_rows(Detail(1.0, None, phases, None))] == [
        False,
        True,
        False,
    ]


def test_nothing_ran() -> None:
    assert phase_rows(Detail(1.0, None, (), None)) == []
    assert ceiling_bytes(Detail(1.0, None, (), None)) == 0


def test_the_ceiling_is_the_most_that_is_known() -> None:
    phases = (Phase("forward", 1, 9, None), Phase("backward", 9, 1, 12))
    peak = Peak("backward", None, 13, Breakdown(13, 0, 0))
    assert ceiling_bytes(Detail(1.0, None, phases, None)) == 12
    assert ceiling_bytes(Detail(1.0, None, phases, peak)) == 13


@pytest.mark.parametrize(
    ("phase", "module", "said"),
    [
        ("backward", "h.3.mlp", "peak 99.0 MiB in backward of h.3.mlp"),
        ("forward", "", "peak 99.0 MiB in forward of the model itself"),
        ("step", None, "peak 99.0 MiB in optimizer step"),
    ],
)
def test_the_peak_in_words(phase: str, module: str | None, said: str) -> None:
    assert peak_sentence(Peak(phase, module, 99 * MIB, Breakdown(1, 0, 0))) == said


def stage(path: str, calls: int = 1) -> Stage:
    return Stage(path, calls, MIB, 3 * MIB, None, 0.1)


def test_stages_stand_under_the_one_that_they_ran_in() -> None:
    ended = [
        stage("set up"),
        stage("epoch / load", 7),
        stage("epoch / train / forward"),
        stage("epoch / train"),
        stage("epoch"),
        stage("save"),
    ]
    rows = stage_rows(ended)
    assert [(row.depth, row.label) for row in rows] == [
        (0, "set up"),
        (0, "epoch"),
        (1, "load ×7"),
        (1, "train"),
        (2, "forward"),
        (0, "save"),
    ]
    assert rows[0].texts == ("set up", "1.00 MiB", "+2.00 MiB", "3.00 MiB", "–")


def test_a_stage_whose_outer_one_still_runs_is_shown_where_it_will_stand() -> None:
    ended = [stage("a / one"), stage("b"), stage("a / two / deep"), stage("a / three")]
    assert [row.stage.path for row in stage_rows(ended)] == [
        "a / one",
        "a / two / deep",
        "a / three",
        "b",
    ]
