from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from vramtop.core.history import MAX_POINTS, RESOLUTION_S, History
from vramtop.core.memory import Breakdown
from vramtop.core.model import HistoryPoint


def point(at: float, parameter: int = 1) -> HistoryPoint:
    return HistoryPoint(at, None, Breakdown(parameter, 0, 0))


def grown(points: list[HistoryPoint]) -> History:
    history = History()
    for each in points:
        history = history.append(each)
    return history


def sizes(columns: list[Breakdown | None]) -> list[int | None]:
    return [None if column is None else column.parameter_bytes for column in columns]


def test_append_leaves_the_old_value_as_it_was() -> None:
    one = History().append(point(1.0))
    two = one.append(point(2.0))
    assert [p.at for p in one] == [1.0]
    assert [p.at for p in two] == [1.0, 2.0]


def test_a_repeated_or_older_sample_is_no_new_point() -> None:
    history = grown([point(1.0), point(2.0)])
    assert history.append(point(2.0, 9)) is history
    assert history.append(point(1.5, 9)) is history


def test_points_closer_than_the_resolution_leave_the_largest() -> None:
    history = grown([point(10.0, 1), point(10.1, 7), point(10.2, 3), point(10.25, 2)])
    assert [(p.at, p.breakdown.parameter_bytes) for p in history] == [(10.1, 7), (10.25, 2)]


def test_it_is_bounded_and_keeps_the_newest() -> None:
    history = grown([point(float(at)) for at in range(5000)])
    kept = [p.at for p in history]
    assert MAX_POINTS - 50 < len(history) <= MAX_POINTS
    assert kept == [float(at) for at in range(5000 - len(history), 5000)]


def test_late_history_is_sorted_in_and_counted_once() -> None:
    live = grown([point(float(at), at) for at in range(50, 60)])
    late = [point(float(at), at) for at in range(55)]
    random.Random(3).shuffle(late)
    merged = live.merge(late)
    assert [p.at for p in merged] == [float(at) for at in range(60)]
    assert list(merged.merge(late)) == list(merged)
    assert [p.at for p in merged.append(point(60.0))][-2:] == [59.0, 60.0]
    assert list(History().merge([])) == []


def test_merging_is_bounded_too() -> None:
    merged = History().merge(point(float(at)) for at in range(9000))
    assert MAX_POINTS - 50 < len(merged) <= MAX_POINTS
    assert merged.last is not None
    assert merged.last.at == 8999.0


def test_a_column_shows_the_peak_in_it() -> None:
    # Ten samples a column of 10 s; the peak of each is its number.
    points = [point(float(at), at // 10 if at % 10 == 4 else 0) for at in range(100)]
    assert sizes(grown(points).columns(10, now=99.0, span_s=100)) == list(range(10))


def test_jitter_is_bridged_and_silence_is_a_gap() -> None:
    times = [0, 1, 2, 3, 13, 14, 15]
    history = grown([point(float(at), at + 1) for at in times])
    columns = sizes(history.columns(32, now=15.5, span_s=16))
    # Half a second a column: each second's value fills two columns, 4 s to 13 s are empty.
    assert columns == [1, 1, 2, 2, 3, 3, 4] + [None] * 19 + [14, 14, 15, 15, 16, 16]


def test_a_slower_pace_leaves_no_holes() -> None:
    history = grown([point(float(at), 1) for at in [*range(30), 35, 40, 45, 50, 55]])
    assert None not in sizes(history.columns(60, now=57.0, span_s=50))


def test_a_silent_probe_ends_the_line() -> None:
    history = grown([point(float(at), 1) for at in range(5)])
    assert sizes(history.columns(10, now=99.0, span_s=100)) == [1] + [None] * 9
    assert sizes(history.columns(10, now=500.0, span_s=100)) == [None] * 10


def test_a_moving_now_shifts_the_columns_only() -> None:
    history = grown([point(at / 2, int(at * 7919 % 101)) for at in range(200)])
    before = history.columns(40, now=80.0, span_s=40)
    after = history.columns(40, now=83.0, span_s=40)
    assert after[:-4] == before[3:-1]  # the last column is not complete yet


def test_no_room_or_nothing_known() -> None:
    assert History().columns(3, 10.0, 10.0) == [None, None, None]
    assert grown([point(1.0)]).columns(0, 10.0, 10.0) == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 99)), min_size=1, max_size=60),
    st.integers(1, 40),
    st.integers(1, 300),
)
def test_columns_agree_with_a_search_of_all_points(
    samples: list[tuple[int, int]], width: int, span_s: int
) -> None:
    now = 400.0
    history = History().merge(point(float(at), size) for at, size in samples)
    kept = {p.at: p.breakdown.parameter_bytes for p in history}
    column_s = span_s / width
    last = now // column_s
    for number, shown in enumerate(sizes(history.columns(width, now, span_s))):
        slot = last - (width - 1) + number
        inside = [size for at, size in kept.items() if at // column_s == slot]
        if inside:
            assert shown == max(inside)
        elif shown is not None:  # bridged: the newest value before it
            earlier = [at for at in kept if at // column_s < slot]
            newest_slot = max(earlier) // column_s
            assert shown in [s for at, s in kept.items() if at // column_s == newest_slot]


def test_the_resolution_divides_a_second() -> None:
    assert (1 / RESOLUTION_S).is_integer()
