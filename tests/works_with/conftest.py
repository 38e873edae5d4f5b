"""One pair of runs a scenario, whatever number of tests look at it."""

import pytest

from tests.works_with.runs import Runs


@pytest.fixture(scope="session")
def pair(request):
    """``pair(scenario)``: its two finished runs. All that were selected are started at once."""
    wanted = {}
    for item in request.session.items:
        scenario = getattr(item, "callspec", None) and item.callspec.params.get("scenario")
        if scenario is not None:
            wanted[scenario.name] = scenario
    runs = Runs(enumerate(wanted.values()))
    yield runs.of
    runs.close()
