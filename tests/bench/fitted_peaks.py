"""How far lines through seen peaks are from those at other batches: of a fitted live process.

Peaks are those of traces on the CPU; the lines are drawn as for a process that is not rebuilt.
"""

from tests.bench.machine import print_table
from vramtop.estimator.catalog import find_model
from vramtop.estimator.live.fitted import fit
from vramtop.estimator.live.steps import steady_step
from vramtop.estimator.workload import Workload
from vramtop.predict import silent, traced
from vramtop.trace.tracer import Tracer

MODELS = (("gpt2", 128), ("gpt2", 1024), ("bert-base-uncased", 512), ("llama-3.2-1b", 512))
SEEN = ((2,), (8,), (2, 4), (4, 8), (2, 8))
TIMES = (0.25, 0.5, 2, 4)
"""Of the largest batch that was seen."""


def main():
    """Print the table: of each set of batches seen the largest errors, by how far it is gone on."""
    rows = []
    with Tracer() as tracer:
        for name, sequence in MODELS:
            for checkpointing in ("none", "full"):
                workload = Workload(
                    find_model(name),
                    batch=2,
                    sequence=sequence,
                    precision="fp32",
                    checkpointing=checkpointing,
                    backend="cpu",
                )
                made = traced(workload, silent, tracer)
                rows += [(f"{name} {sequence} {checkpointing}", *row) for row in errors_of(made)]
    heads = ("model, sequence, checkpointing", "seen", *(f"× {times:g}" for times in TIMES))
    print_table("Peaks beside lines through others, % of the peak", heads, rows)


def errors_of(made):
    """A row for each set of batches that were seen."""
    for seen in SEEN:
        steps = {batch: steady_step(made.timeline(batch), batch, "cpu") for batch in seen}
        one = steps[seen[0]].phases[-2].after
        lasting = one["parameter"] + one["gradient"] + one["optimizer_state"]
        line = fit([(batch, step.peak_bytes) for batch, step in steps.items()], lasting)
        cells = []
        for times in TIMES:
            batch = int(max(seen) * times)
            if batch < 2 or batch in seen:
                cells.append("–")
                continue
            peak = steady_step(made.timeline(batch), batch, "cpu").peak_bytes
            cells.append(f"{100 * ((lasting + line.at(batch)) / peak - 1):+.1f}")
        yield (", ".join(map(str, seen)), *cells)


if __name__ == "__main__":
    main()
