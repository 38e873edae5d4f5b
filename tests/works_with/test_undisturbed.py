"""Every kind of training gives the same, bit for bit, with a watched probe in it and without."""

import pytest

from tests.works_with.scenarios import SCENARIOS

pytest.importorskip("torch")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_same_with_and_without(pair, scenario):
    both = pair(scenario)
    assert "losses" in both.plain.out, both.plain.err
    assert both.watched.out == both.plain.out
    assert both.watched.err == both.plain.err
    assert both.watched.code == both.plain.code
    assert both.seen.of_type("problem") == []
    assert both.seen.of_type("sample"), "the positive control: there was a probe"
