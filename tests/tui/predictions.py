"""Predictions made by hand for the fake training, in place of those that take a tracer."""

from vramtop.core.memory import TENSOR_CATEGORIES
from vramtop.estimator.expected import Expected, ExpectedPhase


def of_detail(detail, factor=None, **more):
    """What a step sampled in detail should have been; ``factor``: by category, what it was not."""
    changed = factor or {}

    def sizes(breakdown):
        return {
            category: int((breakdown.bytes_of(category) or 0) * changed.get(category, 1))
            for category in TENSOR_CATEGORIES
        }

    peak = sizes(detail.peak.breakdown)
    told = {
        "source": "trace",
        "told": "GPT2LMHeadModel rebuilt from its configuration, traced",
        "batch": 8,
        "sequence": 1024,
        "phases": tuple(
            ExpectedPhase(phase.name, sizes(phase.after), phase.peak_bytes or 0)
            for phase in detail.phases
        ),
        "peak": peak,
        "peak_bytes": sum(peak.values()),
        "peak_phase": detail.peak.phase,
        "peak_module": detail.peak.module,
        "reserved_bytes": None,
        "uncertainty": 0.03,
        "logits_bytes": None,
    }
    return Expected(**(told | more))


class Expecting:
    """The same for every batch size."""

    workload = None
    predictor = None

    def __init__(self, expected):
        self._expected = expected
        self.asked = []

    def at(self, batch):
        self.asked.append(batch)
        return self._expected
