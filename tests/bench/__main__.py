"""``python -m tests.bench [NAME ...] [OPTION ...]``: run benchmarks; each prints table and machine.

Options are those of the benchmark that is named.
"""

import importlib
import sys

BENCHMARKS = (
    "monitor",
    "training",
    "probe_cost",
    "detail_cost",
    "accuracy",
    "closed_vs_trace",
    "estimate_speed",
    "forecast_cost",
    "explore_speed",
    "animation",
    "predicted_vs_actual",
    "recording",
    "attach",
)
RECORDERS = ("record_forecast",)
"""They write files that tests read: run by name only."""

first = next((i for i, word in enumerate(sys.argv) if word.startswith("-")), len(sys.argv))
names, options = sys.argv[1:first], sys.argv[first:]
for name in names or BENCHMARKS:
    if name not in BENCHMARKS + RECORDERS:
        sys.exit(f"no benchmark {name!r}; there are: {', '.join(BENCHMARKS + RECORDERS)}")
    main = importlib.import_module(f"tests.bench.{name}").main
    main(*([options] if options else []))
