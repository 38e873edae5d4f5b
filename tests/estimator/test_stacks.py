"""Every stack that a workload may name is declared, with its source."""

from vramtop.estimator.stacks import FACTS
from vramtop.estimator.workload import STACKS


def test_every_stack_is_declared_with_a_source():
    assert set(FACTS) == set(STACKS)
    assert all(facts.source for facts in FACTS.values())
