"""Asking the tracer: what is asked of its process, and answers remembered on disk.

Imports neither torch nor transformers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..estimator.result import Progress
from ..estimator.workload import AllocatorConfig, Device, Parallel, Workload, to_json
from .tracer import Tracer

_KEPT_TRACES = 200
_NEEDED = ("torch", "transformers")


def why_not() -> str | None:
    """Why nothing can be traced here, None where it can."""
    for package in _NEEDED:
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed here (pip install -e '.[torch]' in the checkout)"
    return None


def traces(
    workload: Workload,
    batches: Sequence[int],
    progress: Progress,
    tracer: Tracer | None = None,
) -> list[dict[str, Any]]:
    """The recordings of a workload at some batch sizes; see ``run.trace_batches``.

    ``tracer`` is asked where no answer is kept: one of its own, for this question, where None.

    Raises:
        UsageError: the workload cannot be traced; the message says why and what can be done.
        TracerFailed: the tracer died.
    """
    asked = _relevant(workload)
    request = {"workload": to_json(asked), "batches": list(batches)}
    place = _cache_place(request) if workload.model.entry is None else None
    if place is not None and (kept := _read(place)) is not None:
        return kept
    if tracer is None:
        with Tracer() as own:
            answer = own.ask(request, progress)
    else:
        answer = tracer.ask(request, progress)
    if place is not None:
        _write(place, answer)
    return answer


def _relevant(workload: Workload) -> Workload:
    """Only what changes one rank's timeline, so that other questions find the same trace."""
    device = workload.device
    if device is not None:
        device = Device("", 0, device.compute_capability)
    parallel = workload.parallel
    # The tracer repeats two micro-batches for any number; a pipeline's stage has them too.
    micro_batches = workload.grad_accumulation
    if parallel.pipeline > 1:
        micro_batches *= parallel.micro_batches or parallel.pipeline
    ranks = parallel.tensor * parallel.context * parallel.expert * parallel.pipeline
    return dataclasses.replace(
        workload,
        model=dataclasses.replace(workload.model, parameters=None),
        batch=1,
        grad_accumulation=min(micro_batches, 2),
        device=device,
        allocator=AllocatorConfig(),
        parallel=Parallel(
            gpus=ranks,
            tensor=parallel.tensor,
            context=parallel.context,
            expert=parallel.expert,
            pipeline=parallel.pipeline,
        ),
    )


def _cache_place(request: dict[str, Any]) -> Path:
    from platformdirs import user_cache_path

    versions = [importlib.metadata.version(name) for name in _NEEDED]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        versions.append(importlib.metadata.version("peft"))
    text = json.dumps([request, versions, _sources_stamp()], sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    return user_cache_path("vramtop") / "traces" / f"{name}.json.gz"


def _sources_stamp() -> list[tuple[str, int]]:
    """What of ours makes a trace: an answer from before a change of the tracer is no answer."""
    here = Path(__file__).parent
    return sorted((path.name, path.stat().st_mtime_ns) for path in here.rglob("*.py"))


def _read(place: Path) -> list[dict[str, Any]] | None:
    try:
        kept: list[dict[str, Any]] = json.loads(gzip.decompress(place.read_bytes()))
    except (OSError, EOFError, ValueError):
        return None
    with contextlib.suppress(OSError):
        os.utime(place)
    return kept


def _write(place: Path, answer: list[dict[str, Any]]) -> None:
    """Keep an answer; a cache that cannot be written is only slower."""
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_suffix(f".{os.getpid()}")
        partial.write_bytes(gzip.compress(json.dumps(answer).encode(), 1))
        partial.replace(place)
        kept = sorted(place.parent.glob("*.json.gz"), key=lambda path: path.stat().st_mtime)
        for old in kept[:-_KEPT_TRACES]:
            old.unlink()
