"""An estimate as one JSON object, schema ``vramtop.estimate/1``."""

from __future__ import annotations

import json
from typing import Any

from ..estimator.judge import usable_bytes
from ..estimator.result import COMPONENTS, Estimate
from ..estimator.workload import to_json as workload_json

SCHEMA = "vramtop.estimate/1"


def render(estimate: Estimate) -> str:
    """The estimate as indented JSON."""
    return json.dumps(to_json(estimate), indent=2)


def to_json(estimate: Estimate) -> dict[str, Any]:
    """The estimate as plain JSON values; what there is none of without a device is null."""
    footprint, device = estimate.footprint, estimate.device
    return {
        "schema": SCHEMA,
        "method": footprint.method,
        "workload": workload_json(estimate.workload),
        "components": {f"{name}_bytes": footprint.components[name] for name in COMPONENTS},
        "phases": [
            {
                "name": phase.name,
                "after_bytes": phase.after_bytes,
                "peak_bytes": phase.peak_bytes,
            }
            for phase in footprint.phases
        ],
        "peak": {
            "phase": footprint.peak_phase,
            "step": footprint.peak_step,
            "module": footprint.peak_module,
        },
        "totals": {
            "peak_allocated_bytes": footprint.peak_allocated_bytes,
            "peak_reserved_bytes": footprint.peak_reserved_bytes,
            "process_bytes": footprint.process_bytes,
        },
        "device": None
        if device is None
        else {
            "name": device.name,
            "total_bytes": device.total_bytes,
            "usable_bytes": usable_bytes(device),
        },
        "verdict": estimate.verdict,
        "uncertainty": {
            "low_bytes": estimate.uncertainty.low_bytes,
            "high_bytes": estimate.uncertainty.high_bytes,
        },
        "max_micro_batch": estimate.max_micro_batch,
        "safe_micro_batch": estimate.safe_micro_batch,
        "curve": [list(point) for point in estimate.curve],
        "advice": [
            {
                "change": one.change,
                "options": dict(one.options),
                "saves_bytes": one.saves_bytes,
                "cost": one.cost,
            }
            for one in estimate.advice
        ],
        "notes": list(footprint.notes),
    }
