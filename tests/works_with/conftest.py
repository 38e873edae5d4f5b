"""One pair of runs a scenario, whatever number of tests look at it."""

import pytest

from tests.works_with.runs import Runs
from tests.works_with.scenarios import Scenario


@pytest.fixture(scope="session")
def runs(request):
    """The runs of all scenarios that were selected, started at once."""
    selected = {}
    for item in request.session.items:
        scenario = getattr(item, "callspec", None) and item.callspec.params.get("scenario")
        # Other tests have parameters of that name too.
        if isinstance(scenario, Scenario) and scenario.why_not() is None:
            selected[scenario.name] = scenario
    runs = Runs(enumerate(selected.values()))
    yield runs
    runs.close()


@pytest.fixture
def pair(runs):
    """``pair(scenario)``: its two finished runs; skips the test where it cannot run."""

    def pair(scenario):
        reason = scenario.why_not()
        if reason is not None:
            pytest.skip(reason)
        return runs.of(scenario)

    return pair
