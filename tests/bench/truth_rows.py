"""The published measurements as rows: what was measured, and the workload that was measured.

A row that cannot be reproduced keeps the reason why; nothing is dropped silently. Each source's
own translation is in ``truth_sources``.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vramtop.estimator.catalog import find_gpu, find_model
from vramtop.estimator.workload import Device, Model, Workload

PUBLISHED: Final = Path(__file__).parents[1] / "truth" / "published.csv"
UNITS: Final = {"GB": 10**9, "GiB": 2**30}
METRICS: Final = {
    "peak_allocated": "allocated",
    "peak_active (torch active_bytes.all.peak)": "allocated",
    "peak_reserved": "reserved",
    "nvidia-smi": "process",
    "component": "weights",
}
"""Metrics by the total that they are. Active bytes are allocated ones plus those that wait for
another stream, of which one GPU has none."""
Record = dict[str, str]
Translation = Workload | str
"""A workload, or the reason why there is none."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement."""

    number: int
    """Line of the file, the header is 1."""
    source: str
    label: str
    metric: str
    """allocated, reserved, process or weights."""
    measured_bytes: int | None
    """None: it ran out of memory."""
    workload: Workload | None
    left_out: str = ""
    context_bytes: int | None = None
    """The CUDA context, where the source measured it."""
    traced: Workload | None = None
    """What the tracer gets, where a library's old version is declared by a function."""

    @property
    def ran_out(self) -> bool:
        """Whether the run died."""
        return self.measured_bytes is None and not self.left_out


def published() -> list[Row]:
    """Every row of the file, in order."""
    from .truth_sources import SOURCES

    with PUBLISHED.open(newline="", encoding="utf-8") as file:
        records = list(csv.DictReader(file))
    return [_row(number, record, SOURCES) for number, record in enumerate(records, 2)]


def _row(number: int, record: Record, sources: dict[str, Callable[[Record], Translation]]) -> Row:
    source = record["source"]
    label = " ".join(
        record[name]
        for name in ("model", "dtype", "optimizer", "quant", "parallelism")
        if record[name] not in ("", "none")
    )
    sizes = f"b{record['micro_batch']} s{record['seq_len']}" if record["training"] == "1" else ""
    translated: Translation = _missing(record) or sources.get(source, _no_translation)(record)
    known = isinstance(translated, Workload)
    return Row(
        number,
        source,
        f"{label} {sizes}".strip(),
        METRICS.get(record["metric"], "unknown"),
        _measured(record),
        translated if known else None,
        "" if known else str(translated),
        _declared_context(record),
        OLD_VERSIONS[source](translated) if known and source in OLD_VERSIONS else None,
    )


def _bert_2022(workload: Workload) -> Workload:
    entry = f"{Path(__file__).parent / 'bert_2022.py'}:large"
    return dataclasses.replace(workload, model=Model(workload.model.name, entry=entry))


OLD_VERSIONS: Final = {"HF perf_train_gpu_one": _bert_2022}
"""Workloads of sources whose library differs from today's where only the tracer can tell."""


def _no_translation(record: Record) -> Translation:
    return "no configuration is published with it"


def _missing(record: Record) -> str:
    if record["metric"] not in METRICS:
        return "which total was measured is not said"
    if record["memory_gb"] != "OOM" and record["unit"] not in UNITS:
        return "the unit is not said"
    if record["training"] == "1":
        for name in ("micro_batch", "optimizer", "grad_ckpt"):
            if record[name] in ("", "unknown"):
                return f"{name} is not said"
        if "variable" in record["seq_len"]:
            return "the sequence length varies"
        if record["seq_len"] == "unknown":
            return "seq_len is not said"
    if "compile" in record["notes"]:
        return "torch.compile, whose fusions are not modelled"
    if "offload" in record["parallelism"] or "offload" in record["grad_ckpt"].lower():
        return "offload to the host, which a workload cannot say"
    return ""


def _measured(record: Record) -> int | None:
    if record["memory_gb"] == "OOM" or record["unit"] not in UNITS:
        return None
    exact = re.search(r"bytes=(\d+)", record["notes"])
    if exact is not None and record["metric"] != "peak_reserved":
        return int(exact[1])
    return round(float(record["memory_gb"]) * UNITS[record["unit"]])


def _declared_context(record: Record) -> int | None:
    said = re.search(r"context alone = (\d+) MiB", record["notes"])
    return int(said[1]) << 20 if said else None


def model(name: str, **changes: Any) -> Model:
    """A model of the catalogue, its configuration changed where asked.

    Raises:
        KeyError: the catalogue does not have it.
    """
    found = find_model(name)
    if found is None:
        raise KeyError(name)
    if not changes:
        return found
    return Model(found.name, {**(found.config or {}), **changes}, found.auto_class)


def device(name: str) -> Device | None:
    """The GPU of a row, None where it is not said."""
    if "unknown" in name:
        return None
    if name.startswith("H100 96GB"):
        # Not in the catalogue: what torchtitan printed on it (32.51 % were 30.89 GiB).
        return Device("H100 96GB", 95 << 30, (9, 0))
    return find_gpu(name.removesuffix(" 24GB"))
