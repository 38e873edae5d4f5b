"""``make fuzz``: every fuzzer for ``FUZZ_SECONDS`` (60), other inputs than in the suite.

Prints a table; the exit code is 1 where something was found. ``FUZZ_SEED`` (by default the time)
makes it the same run again. ``python -m tests.fuzz recordings`` runs those with that in their name.
"""

import os
import sys
import time

from tests.fuzz.fuzzers import FUZZERS
from tests.fuzz.harness import run

_SHARE_BY_HYPOTHESIS = 0.4


def main():
    """Run them one after the other."""
    seconds = float(os.environ.get("FUZZ_SECONDS", "60"))
    first = int(os.environ.get("FUZZ_SEED", time.time()))
    print(f"FUZZ_SEED={first} FUZZ_SECONDS={seconds:g}\n")
    print(f"{'fuzzer':24} {'by':10} {'inputs':>8} {'s':>6} {'worst ms':>9} {'peak':>8} findings")
    found = []
    for fuzzer in FUZZERS:
        if not all(word in fuzzer.name for word in sys.argv[1:]):
            continue
        for by_hypothesis in (False, True):
            share = _SHARE_BY_HYPOTHESIS if by_hypothesis else 1 - _SHARE_BY_HYPOTHESIS
            outcome = run(fuzzer, by_hypothesis, seconds=seconds * share, first=first)
            peak = f"{outcome.peak_bytes / 2**20:.1f} MiB" if fuzzer.traced else "-"
            by = "hypothesis" if by_hypothesis else "bytes"
            print(
                f"{fuzzer.name:24} {by:10} {outcome.inputs:8} {outcome.seconds:6.0f} "
                f"{outcome.worst_s * 1000:9.0f} {peak:>8} {len(outcome.findings)}",
                flush=True,
            )
            found += outcome.findings
    for finding in found:
        print(f"\n{finding}")
    return 1 if found else 0


sys.exit(main())
