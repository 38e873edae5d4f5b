"""Every kind of training gives the same, bit for bit, with a watched probe in it and without."""

import importlib.util

import pytest

from tests.works_with.scenarios import SCENARIOS

pytest.importorskip("torch")


def runnable(scenario):
    missing = [name for name in scenario.needs if importlib.util.find_spec(name) is None]
    marks = [pytest.mark.skip(reason=f"{', '.join(missing)} not installed")] if missing else []
    return pytest.param(scenario, marks=marks, id=scenario.name)


@pytest.mark.parametrize("scenario", [runnable(s) for s in SCENARIOS])
def test_same_with_and_without(pair, scenario):
    both = pair(scenario)
    assert "losses" in both.plain.out, both.plain.err
    assert both.watched.out == both.plain.out
    assert both.watched.err == both.plain.err
    assert both.watched.code == both.plain.code
    assert both.seen.of_type("problem") == []
    assert both.seen.of_type("sample"), "the positive control: there was a probe"
