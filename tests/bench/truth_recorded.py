"""What ``record_truth`` has measured on cards, as rows beside the published ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from vramtop.estimator.catalog import find_gpu
from vramtop.estimator.workload import Device, Lora, Model, Workload

from .truth_rows import PUBLISHED, Row

TOTALS = {
    "allocated": "peak_allocated_bytes",
    "reserved": "peak_reserved_bytes",
    "process": "process_bytes",
}


def recorded() -> list[Row]:
    """A row for each total of each run, in the order of the files; none where none was recorded."""
    answers = [
        answer
        for place in sorted(PUBLISHED.parent.glob("recorded-*.json"))
        for answer in json.loads(place.read_text())
    ]
    return [row for number, answer in enumerate(answers, 1) for row in _rows(number, answer)]


def _rows(number: int, answer: dict[str, Any]) -> Iterator[Row]:
    asked = answer["asked"]
    if "failed" in answer:
        yield Row(number, "recorded", asked["name"], "allocated", None, None, answer["failed"])
        return
    source = f"recorded on {answer['device']}"
    workload = workload_of(asked, find_gpu(answer["device"]))
    for metric, name in TOTALS.items():
        measured = None if answer["died"] else answer[name]
        if measured is not None or answer["died"]:
            yield Row(number, source, asked["name"], metric, measured, workload)


def workload_of(asked: dict[str, Any], device: Device | None) -> Workload:
    """The workload of which ``truth_run`` ran the configuration."""
    lora = Lora(asked["lora"]) if asked.get("lora") else None
    return Workload(
        Model(asked["name"], asked["config"]),
        mode=asked.get("mode", "training"),
        batch=asked["batch"],
        sequence=asked["sequence"],
        precision=asked["precision"],
        optimizer=asked.get("optimizer", "adamw"),
        optimizer_implementation="fused" if asked.get("fused") else None,
        attention=asked.get("attention", "sdpa"),
        checkpointing=asked.get("checkpointing", "none"),
        lora=lora,
        new_tokens=asked.get("new_tokens", 0),
        device=device,
    )
