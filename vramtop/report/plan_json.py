"""A plan as one JSON object, schema ``vramtop.plan/1``."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from ..estimator.plan import Configuration, Plan, options, strengths

SCHEMA = "vramtop.plan/1"


def render(plan: Plan) -> str:
    """The plan as indented JSON."""
    return json.dumps(to_json(plan), indent=2)


def to_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON values; ``nearest`` is there where nothing fits, else null."""
    base = plan.wish.workload
    device = base.device
    return {
        "schema": SCHEMA,
        "model": base.model.name,
        "wanted": {
            "effective_batch": plan.wish.effective_batch,
            "sequence": base.sequence,
            "precision": base.precision,
            "optimizer": base.optimizer,
            "gpus": base.parallel.gpus,
        },
        "device": None
        if device is None
        else {"name": device.name, "total_bytes": device.total_bytes},
        "limit_bytes": plan.limit_bytes,
        "tried": plan.tried,
        "configurations": [_configuration(one, plan) for one in plan.configurations],
        "nearest": None if plan.nearest is None else _configuration(plan.nearest, plan),
        "notes": list(plan.notes),
    }


def _configuration(one: Configuration, plan: Plan) -> dict[str, Any]:
    workload, parallel = one.workload, one.workload.parallel
    return {
        "departures": list(one.arithmetic.departures),
        "method": one.footprint.method,
        "micro_batch": workload.batch,
        "passes": one.passes,
        "data_parallel": parallel.data,
        "zero": parallel.zero,
        "tensor_parallel": parallel.tensor,
        "sequence_parallel": parallel.sequence,
        "pipeline_parallel": parallel.pipeline,
        "precision": workload.precision,
        "optimizer": workload.optimizer,
        "checkpointing": workload.checkpointing,
        "lora": None if workload.lora is None else dataclasses.asdict(workload.lora),
        "totals": {
            "peak_allocated_bytes": one.footprint.peak_allocated_bytes,
            "peak_reserved_bytes": one.footprint.peak_reserved_bytes,
            "process_bytes": one.process_bytes,
        },
        "recomputation_share": one.recomputation,
        "bubble_share": one.bubble,
        "sent_bytes": one.sent_bytes,
        "communication": [dataclasses.asdict(item) for item in one.traffic],
        "best_in": list(strengths(one, plan.configurations)),
        "options": " ".join(options(workload)),
    }
