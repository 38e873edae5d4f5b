"""A short portion of ``make fuzz``, the same in every run."""

import pytest

from tests.fuzz.fuzzers import FUZZERS
from tests.fuzz.harness import run

_OF_HYPOTHESIS = 4
"""Its inputs take longer: one for so many of the others."""


@pytest.mark.parametrize("by_hypothesis", [False, True], ids=["bytes", "hypothesis"])
@pytest.mark.parametrize("fuzzer", FUZZERS, ids=lambda fuzzer: fuzzer.name)
def test_nothing_breaks_it(fuzzer, by_hypothesis):
    inputs = fuzzer.suite_inputs // (_OF_HYPOTHESIS if by_hypothesis else 1)
    outcome = run(fuzzer, by_hypothesis, inputs=inputs)
    assert not outcome.findings, "\n\n".join(outcome.findings)
    assert outcome.inputs >= inputs
