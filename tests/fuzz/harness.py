"""Runs one fuzzer within bounds: seconds of CPU and bytes for every input, findings kept."""

import contextlib
import signal
import time
import traceback
import tracemalloc
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

MAX_CPU_S = 5.0
"""For one input, tracing of memory included; whatever takes so long hangs a screen."""
MAX_BYTES = 256 << 20
"""For one input of at most a few MiB."""
_MOST_FINDINGS = 5
_A_BATCH = 20


@dataclass(frozen=True)
class Fuzzer:
    """One reader of what others have written, and what it is given.

    ``opened`` gives, as a context manager, a check that raises where the reader does something
    that is not documented. ``mutated`` makes an input by chance; ``strategy`` is hypothesis'.
    """

    name: str
    opened: Callable[[], AbstractContextManager[Callable[[Any], None]]]
    mutated: Callable[[Random], Any]
    strategy: st.SearchStrategy[Any]
    suite_inputs: int = 40
    """So many in the normal suite, where half a minute is all there is for all fuzzers."""
    traced: bool = True
    """Whether the memory of an input is measured; what paints is five times slower for it."""


@dataclass
class Outcome:
    """What a run has seen."""

    inputs: int = 0
    seconds: float = 0.0
    worst_s: float = 0.0
    peak_bytes: int = 0
    findings: list[str] = field(default_factory=list)


class TooSlow(AssertionError):
    """An input took more CPU than it may."""


@contextlib.contextmanager
def bounded(outcome, traced):
    """One input: its time and its memory, held against what it may take."""

    def give_up(*_):
        raise TooSlow(f"over {MAX_CPU_S} s of CPU")

    before = signal.signal(signal.SIGPROF, give_up)
    if traced:  # no longer: in a fresh checkout hypothesis takes half a minute to begin under it
        tracemalloc.start()
    started = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, MAX_CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        outcome.inputs += 1
        outcome.worst_s = max(outcome.worst_s, time.process_time() - started)
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        outcome.peak_bytes = max(outcome.peak_bytes, taken)
    assert taken < MAX_BYTES, f"{taken >> 20} MiB for one input"


def run(fuzzer, by_hypothesis, inputs=1 << 60, seconds=float("inf"), first=0):
    """Give the fuzzer inputs until there were so many, or that many seconds are over."""
    outcome = Outcome()
    started = time.monotonic()
    number = first

    def is_over():
        outcome.seconds = time.monotonic() - started
        too_many = len(outcome.findings) >= _MOST_FINDINGS
        return outcome.inputs >= inputs or outcome.seconds >= seconds or too_many

    while not is_over():
        # Opened anew after every finding: it may have left anything behind.
        with fuzzer.opened() as check:
            before = len(outcome.findings)
            while not is_over() and len(outcome.findings) == before:
                count = min(_A_BATCH, inputs - outcome.inputs)
                give = _give_batch if by_hypothesis else _give_one
                give(fuzzer, check, number, count, outcome)
                number += 1
    return outcome


def _give_one(fuzzer, check, number, _count, outcome):
    try:
        value = fuzzer.mutated(Random(f"{fuzzer.name} {number}"))
        with bounded(outcome, fuzzer.traced):
            check(value)
    except Exception:
        said = f"{fuzzer.name}, input {number}: {value!r:.3000}"
        outcome.findings.append(f"{said}\n{traceback.format_exc()}")


def _give_batch(fuzzer, check, number, count, outcome):
    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        verbosity=Verbosity.quiet,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(fuzzer.strategy)
    def prove(value):
        with bounded(outcome, fuzzer.traced):
            check(value)

    try:
        prove()
    except Exception:
        outcome.findings.append(f"{fuzzer.name}, batch {number}\n{traceback.format_exc()}")
