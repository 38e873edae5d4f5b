"""A post-mortem as one JSON object, schema ``vramtop.postmortem-report/1``; unknown is null."""

from __future__ import annotations

import json
from typing import Any

from ..core.model import PostMortem
from ..core.postmortem import FittingBatch
from ..core.postmortem_story import Story
from . import json as snapshot_json
from .json_failure import failure_object
from .json_time import time_text

SCHEMA = "vramtop.postmortem-report/1"
"""Not that of the file itself, which is what the probe has said and no verdict."""


def render(found: PostMortem, story: Story, batch: FittingBatch | None = None) -> str:
    """The post-mortem as JSON text."""
    return json.dumps(to_object(found, story, batch), indent=2, ensure_ascii=False)


def to_object(found: PostMortem, story: Story, batch: FittingBatch | None) -> dict[str, Any]:
    """The verdict, what to change, the moment, and the process as in ``--once --json``."""
    snapshot = snapshot_json.to_object(found.snapshot)
    return {
        "schema": SCHEMA,
        "written_at": time_text(found.written_at),
        "written_by": found.written_by,
        "sentence": story.sentence,
        "failure": failure_object(found.failure),
        "remedies": [
            {"kind": remedy.kind, "text": remedy.text, "sure": remedy.is_sure}
            for remedy in story.remedies
        ],
        "fitting_batch": None
        if batch is None
        else {"batch": batch.batch, "failed_batch": batch.failed_batch, "source": batch.source},
        "memory": [
            {
                "category": row.category,
                "last_bytes": row.last_bytes,
                "peak_bytes": row.peak_bytes,
                "predicted_bytes": row.predicted_bytes,
            }
            for row in story.rows
        ],
        "facts": [{"label": label, "text": text} for label, text in story.facts],
        "traceback": list(story.traceback),
        "host": snapshot["host"],
        "devices": snapshot["devices"],
        "process": snapshot["processes"][0],
    }
