"""The Pareto front against its definition, tried on every pair."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vramtop.estimator.plan.pareto import dominates, front

costs = st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=25)


@given(costs)
def test_front_is_what_nothing_dominates(items: list[tuple[int, int, int]]) -> None:
    kept = front(items, lambda item: item)
    assert len(kept) == len(set(kept))
    assert set(kept) == {
        item for item in items if not any(dominates(other, item) for other in items)
    }


def test_dominates() -> None:
    assert dominates((1, 2), (1, 3))
    assert not dominates((1, 3), (1, 3))
    assert not dominates((0, 4), (1, 3))


def test_of_equals_the_first() -> None:
    assert front(["b", "a"], lambda item: (1,)) == ["b"]
