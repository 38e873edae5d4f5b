"""What a process should hold, as plain values: the key ``prediction`` of JSON and post-mortems."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..estimator.comparison import Comparison, Moment, Pair

if TYPE_CHECKING:
    from .predictions import Prediction


def prediction_object(prediction: Prediction | None) -> dict[str, Any] | None:
    """Of the torch device that the process uses most.

    None without a probe. Where there is no prediction ``problem`` says why and the rest is null;
    before a step was sampled in detail ``moments`` has only now, and ``peak`` is null.
    """
    if prediction is None:
        return None
    comparison = prediction.comparison
    if comparison is None:
        empty = dict.fromkeys(
            ("source", "told", "batch", "sequence", "uncertainty", "differs", "peak")
        )
        return {**empty, "moments": [], "reasons": [], "notes": [], "problem": prediction.problem}
    expected = comparison.expected
    return {
        "source": expected.source,
        "told": expected.told,
        "batch": expected.batch,
        "sequence": expected.sequence,
        "uncertainty": expected.uncertainty,
        "differs": comparison.differs,
        "peak": _peak(comparison),
        "moments": [_moment(moment) for moment in comparison.moments],
        "reasons": [
            {"kind": r.kind, "category": r.category, "text": r.text, "bytes": r.bytes}
            for r in comparison.reasons
        ],
        "notes": list(expected.notes),
        "problem": None,
    }


def _peak(comparison: Comparison) -> dict[str, Any] | None:
    moment, expected = comparison.moment("peak"), comparison.expected
    if moment is None:
        return None
    return {
        **_pair(moment.total),
        "predicted_phase": expected.peak_phase,
        "predicted_module": expected.peak_module,
        "actual_phase": moment.phase,
        "predicted_reserved_bytes": expected.reserved_bytes,
    }


def _moment(moment: Moment) -> dict[str, Any]:
    """``phase``: for now the one that had ended last, for the peak the one in which it was."""
    return {
        "name": moment.name,
        "phase": moment.phase,
        "total": _pair(moment.total),
        "categories": {pair.category: _pair(pair) for pair in moment.pairs},
    }


def _pair(pair: Pair) -> dict[str, int | None]:
    return {
        "predicted_bytes": pair.predicted_bytes,
        "actual_bytes": pair.actual_bytes,
        "delta_bytes": pair.delta_bytes,
    }
