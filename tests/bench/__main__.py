"""``python -m tests.bench [NAME ...]``: run benchmarks; each prints its table and machine."""

import importlib
import sys

BENCHMARKS = ("monitor", "training", "probe_cost", "detail_cost")

for name in sys.argv[1:] or BENCHMARKS:
    if name not in BENCHMARKS:
        sys.exit(f"no benchmark {name!r}; there are: {', '.join(BENCHMARKS)}")
    importlib.import_module(f"tests.bench.{name}").main()
