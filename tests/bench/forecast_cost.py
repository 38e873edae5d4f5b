"""What a forecast costs: it is made for every process on each torch device at each snapshot."""

import statistics
import time

from tests.bench.machine import print_table
from tests.core.simulated_cuda import Training, free_bytes
from vramtop.core.forecast import forecast
from vramtop.core.history import MAX_POINTS

ROUNDS = 200


def main():
    """Print the table."""
    leak = 60 << 20
    trainings = {
        "healthy": Training(1),
        "leaking": Training(1, kept=lambda at: leak * at),
        "fragmenting": Training(1, fragments=lambda at: leak * at),
    }
    rows = []
    for name, training in trainings.items():
        points = training.history(MAX_POINTS / 4, 0.25)
        free = free_bytes(points[-1])
        took = []
        for _ in range(ROUNDS):
            began = time.thread_time()
            found = forecast(points, free)
            took.append(1000 * (time.thread_time() - began))
        said = found.kind if found else "nothing"
        rows.append((name, len(points), said, f"{statistics.median(took):.2f}"))
    print_table(
        f"one forecast from a full history, median CPU time of {ROUNDS}",
        ("training", "points", "says", "ms"),
        rows,
    )
