"""What is predicted of live trainings on the CPU beside what their sampled steps say.

Real processes under ``vramtop run``, each rebuilt from what its probe streams.
"""

import sys
import tempfile
from pathlib import Path

from tests.bench.machine import print_table
from tests.stack.watched import ROOT, watched
from vramtop.core.breakdowns import detail_of
from vramtop.core.memory import TENSOR_CATEGORIES
from vramtop.predict.live import expect
from vramtop.trace.tracer import Tracer

TRAINING = "tests/bench/expected_training.py"
DEMO = "vramtop/cli/demo_training.py"
CASES = {
    "demo": (DEMO,),
    "demo, checkpointing": (TRAINING, "demo", "--checkpointing", "--zero-late"),
    **{
        name + more: (TRAINING, name, *options)
        for name in ("gpt2", "llama", "lora")
        for more, options in (("", ()), (", checkpointing", ("--checkpointing",)))
    },
    "gpt2, zero_grad before backward": (TRAINING, "gpt2", "--zero-late"),
    "gpt2, loss outside": (TRAINING, "gpt2", "--own-loss"),
    "gpt2, 2 micro-batches": (TRAINING, "gpt2", "--accumulate", "2"),
    "gpt2, momentum": (TRAINING, "gpt2", "--optimizer", "momentum"),
    "llama, foreach": (TRAINING, "llama", "--optimizer", "foreach"),
    "llama, bf16": (TRAINING, "llama", "--bf16"),
    "llama, autocast": (TRAINING, "llama", "--autocast"),
    "llama, autocast, checkpointing": (TRAINING, "llama", "--autocast", "--checkpointing"),
}
"""Scripts and their arguments by the name of the case."""


def case(name, folder, tracer=None):
    """(what was expected, the sampled step) of one training."""
    script, *options = CASES[name]
    fleet, process = watched([str(ROOT / script), *options], folder)
    expected = expect(process, "cpu", fleet.snapshot.devices, tracer=tracer)
    detail = detail_of(process, "cpu")
    return expected.at(detail.batch_shapes[0][0]), detail


def pairs(expected, detail):
    """(moment, category, predicted bytes, actual bytes) of all that is not 0 in both."""
    found = []
    actual = {phase.name: phase for phase in detail.phases}
    for phase in expected.phases:
        if phase.name in actual and (after := actual[phase.name].after):
            found += [
                (f"after {phase.name}", category, phase.after[category], after.bytes_of(category))
                for category in TENSOR_CATEGORIES
            ]
    peak = detail.peak
    found += [
        (
            f"peak, {peak.phase}",
            category,
            expected.peak[category],
            peak.breakdown.bytes_of(category),
        )
        for category in TENSOR_CATEGORIES
    ]
    found.append((f"peak, {peak.phase}", "total", expected.peak_bytes, peak.total_bytes))
    return [(*words, ours, theirs or 0) for *words, ours, theirs in found if ours or theirs]


def main(options=()):
    """Print the table: of each case the category of each kind where it is farthest.

    Options: the beginnings of the cases that are wanted, as ``--llama``.
    """
    wanted = tuple(option.lstrip("-") for option in options)
    rows = []
    with Tracer() as tracer:
        for name in [name for name in CASES if name.startswith(wanted or "")]:
            print(f"{name} …", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="vt-") as folder:
                rows += farthest(name, pairs(*case(name, Path(folder), tracer)))
    heads = ("case", "category", "where farthest", "predicted", "actual", "delta", "share")
    print_table("Predicted and actual bytes on the CPU, where they are farthest apart", heads, rows)


def farthest(name, compared):
    """A row for every category: the moment at which its two figures are farthest apart."""
    found = {}
    for moment, category, ours, theirs in compared:
        if category not in found or abs(theirs - ours) > abs(found[category][2]):
            share = f"{100 * (theirs - ours) / ours:+.3f} %" if ours else "–"
            found[category] = (moment, f"{ours:,}", theirs - ours, f"{theirs:,}", share)
    return [
        (name, category, moment, ours, theirs, f"{delta:+,}", share)
        for category, (moment, ours, delta, theirs, share) in found.items()
    ]


if __name__ == "__main__":
    main()
