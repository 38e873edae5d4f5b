"""Predicted against published memory, row by row, for every method and its rivals.

``python -m tests.bench.accuracy [--source PART] [--method NAME]``. The error is (predicted -
measured) / measured of the total that the source measured. A verdict is right if a run is
predicted to exceed its GPU exactly when it died.
"""

import argparse
import statistics
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass

from vramtop.errors import VramtopError
from vramtop.estimator.judge import on_device
from vramtop.predict import predictor

from . import formulas
from .machine import print_table
from .truth_recorded import recorded
from .truth_rows import published

OWN = ("trace", "closed-form", "seed")
RIVALS = {
    "accelerate": formulas.accelerate,
    "deepspeed": formulas.deepspeed,
    "megatron": formulas.megatron,
}
METHODS = (*OWN, *RIVALS)
PLAIN = ("plain", "hf-trainer", "fsdp-qlora")


@dataclass(frozen=True)
class Answer:
    """What a method said of one row, and in what time."""

    predicted_bytes: int | None
    process_bytes: int | None
    seconds: float
    refused: str = ""

    def error(self, row):
        """Relative, None where the row died or the method said nothing."""
        if self.predicted_bytes is None or row.measured_bytes is None:
            return None
        return self.predicted_bytes / row.measured_bytes - 1

    def verdict_right(self, row):
        """Whether the run's fate was told, None where no device or no answer is there."""
        device = row.workload.device
        if self.process_bytes is None or device is None:
            return None
        return (self.process_bytes > device.total_bytes) == row.ran_out


def ask(method, row):
    """One method's answer about one row."""
    began = time.perf_counter()
    try:
        if method in RIVALS:
            size = RIVALS[method](row.workload)
            return Answer(size, size, time.perf_counter() - began)
        workload = row.traced if method == "trace" and row.traced else row.workload
        footprint = on_device(predictor(workload, method), workload)
    # A refusal is an answer too: a rival that lacks a package or the kind of model among them.
    except (VramtopError, ImportError, NotImplementedError) as error:
        refused = (str(error) or type(error).__name__).splitlines()[0]
        return Answer(None, None, time.perf_counter() - began, refused)
    seconds = time.perf_counter() - began
    process = footprint.process_bytes
    if row.context_bytes is not None:
        process = footprint.peak_reserved_bytes + row.context_bytes
    totals = {
        "allocated": footprint.peak_allocated_bytes,
        "reserved": footprint.peak_reserved_bytes,
        "process": process,
        "weights": footprint.components["parameter"],
    }
    return Answer(totals[row.metric], process, seconds)


def percent(value):
    """A relative error with its sign."""
    return "–" if value is None else f"{value:+.2%}"


def print_rows(rows, answers, methods):
    """Every row with each method's error."""
    for source in dict.fromkeys(row.source for row in rows):
        lines = []
        for row in (row for row in rows if row.source == source):
            measured = "OOM" if row.ran_out else f"{row.measured_bytes / 2**30:.2f}"
            cells = []
            for method in methods:
                answer = answers[method, row.number]
                if row.ran_out and answer.process_bytes is not None:
                    cells.append("oom" if answer.verdict_right(row) else "FITS")
                else:
                    cells.append(percent(answer.error(row)))
            lines.append((f"{row.number} {row.label[:70]}", row.metric, measured, *cells))
        print_table(source, ("line, run", "total", "GiB", *methods), lines)


def print_summary(title, rows, answers, methods):
    """Median, worst and the rest by source and metric."""
    groups = defaultdict(list)
    for row in rows:
        groups[row.source, row.metric].append(row)
    if len(groups) > 1:
        for metric in dict.fromkeys(row.metric for row in rows):
            groups["all", metric] = [row for row in rows if row.metric == metric]
    lines = []
    for (source, metric), group in groups.items():
        for method in methods:
            said = [answers[method, row.number] for row in group]
            errors = [e for a, r in zip(said, group, strict=True) if (e := a.error(r)) is not None]
            verdicts = [
                v for a, r in zip(said, group, strict=True) if (v := a.verdict_right(r)) is not None
            ]
            fatal = sum(
                r.ran_out and a.verdict_right(r) is False for a, r in zip(said, group, strict=True)
            )
            lines.append(
                (
                    f"{source}: {metric}",
                    method,
                    f"{len(errors)}/{sum(not r.ran_out for r in group)}",
                    percent(statistics.median(map(abs, errors)) if errors else None).lstrip("+"),
                    percent(max(errors, key=abs) if errors else None),
                    f"{sum(e < 0 for e in errors) / len(errors):.0%}" if errors else "–",
                    f"{sum(verdicts)}/{len(verdicts)}",
                    fatal,
                    f"{sum(a.seconds for a in said):.2f}",
                )
            )
    heads = ("source: total", "method", "rows", "median", "worst", "under", "verdicts", "fits †")
    print_table(title, (*heads, "seconds"), lines)
    print('† said "fits" of what died')


def main(options=()):
    """Print rows, summaries, and what was left out."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.accuracy")
    parser.add_argument("--source", default="", help="only sources whose name has this part")
    parser.add_argument("--method", choices=METHODS, action="append", help="only this one")
    asked = parser.parse_args(list(options))
    methods = tuple(asked.method or METHODS)
    wanted = asked.source.lower()
    every = [row for row in [*published(), *recorded()] if wanted in row.source.lower()]
    rows = [row for row in every if row.workload is not None]
    answers = {}
    for row in rows:
        for method in methods:
            answers[method, row.number] = ask(method, row)
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print_rows(rows, answers, methods)
    plain = [row for row in rows if row.workload.stack in PLAIN]
    other = [row for row in rows if row.workload.stack not in PLAIN]
    if plain:
        print_summary("Hugging Face and plain PyTorch", plain, answers, methods)
    if other:
        print_summary("Other stacks", other, answers, methods)
    left = Counter((row.source, row.left_out) for row in every if row.workload is None)
    print_table(
        f"Left out: {left.total()} of {len(every)} rows",
        ("source", "rows", "why"),
        [(source, count, why) for (source, why), count in left.items()],
    )
    refused = Counter((m, a.refused) for (m, _), a in answers.items() if a.refused)
    if refused:
        print_table(
            "Refused by a method",
            ("method", "rows", "why"),
            [(method, count, why) for (method, why), count in refused.items()],
        )


if __name__ == "__main__":
    main(sys.argv[1:])
