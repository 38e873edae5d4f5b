"""The slider's track as a person sees it."""

import pytest

from vramtop.draw.slider import log_share, share_at, slider


def drawn(*arguments, **options):
    return "".join(run.text for run in slider(*arguments, **options))


@pytest.mark.parametrize(
    ("share", "limit", "track"),
    [
        (0.0, None, "●─────────"),
        (0.5, None, "━━━━●─────"),
        (1.0, None, "━━━━━━━━━●"),
        (0.3, 0.7, "━━━●───╳╳╳"),
        (0.9, 0.3, "━━━━╳╳╳╳●╳"),
        (0.0, -1.0, "●╳╳╳╳╳╳╳╳╳"),
        (0.5, -1.0, "╳╳╳╳●╳╳╳╳╳"),
        (0.2, 1.0, "━━●───────"),
    ],
)
def test_track(share, limit, track):
    assert drawn(share, 10, limit) == track


def test_ascii():
    assert drawn(0.3, 10, 0.7, ascii=True) == "===O---xxx"


def test_runs_say_what_they_are():
    assert [(run.key, run.text) for run in slider(0.5, 8, 0.8)] == [
        ("done", "━━━━"),
        ("knob", "●"),
        ("rest", "──"),
        ("beyond", "╳"),
    ]


@pytest.mark.parametrize("width", [0, 1, 2, 40])
def test_exactly_as_wide_as_asked(width):
    for share in (-1.0, 0.0, 0.33, 1.0, 2.0):
        assert len(drawn(share, width)) == width


@pytest.mark.parametrize("width", [2, 7, 10, 40])
def test_a_click_on_a_cell_puts_the_knob_there(width):
    for column in range(width):
        assert drawn(share_at(column, width), width).index("●") == column


def test_doublings_are_equally_long():
    places = [log_share(value, 1, 16) for value in (1, 2, 4, 8, 16)]
    assert places == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert log_share(0.5, 1, 16) == 0
    assert log_share(99, 1, 16) == 1
    assert log_share(3, 3, 3) == 0
