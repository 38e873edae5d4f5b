"""What a training on the double holds beside what it should: cached memory, and fragmentation.

Oracle: the double's allocator, which follows the real one's rules, and what the script did to it.
"""

import time

import pytest

from tests.fakecuda.conftest import PREAMBLE, Training
from vramtop.core.breakdowns import detail_of
from vramtop.core.fleet import Fleet, reduce
from vramtop.predict.predictions import of_fleet
from vramtop.sources.collector import Collector

pytest.importorskip("transformers")

LIMIT_S = 120.0
MIB = 1 << 20

TRAINING = """
import json
memory = install(capacity_bytes=2 << 30)
import torch
from transformers import GPT2Config
from tests.stack.deviating_training import train

# The double has no fused attention; so short sequences of one head hardly show it.
config = GPT2Config(n_embd=256, n_layer=2, n_head=1, n_positions=64, vocab_size=4000, attn_pdrop=0)

kept = []
for size in range({pieces}):
    # Each is larger than any hole that those before it have left, and leaves a hole of its own.
    large = torch.empty((12 + 2 * size) << 20, dtype=torch.uint8, device="cuda")
    del large
    kept.append(torch.empty(3 << 19, dtype=torch.uint8, device="cuda"))

for line in sys.stdin:
    train("healthy", "cuda", int(line), config, 16)
    print(json.dumps(torch.cuda.memory_stats()), flush=True)
"""


@pytest.fixture(scope="module")
def kept_traces(tmp_path_factory):
    """Where one trace serves both trainings, whose models and loops are the same."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def comparison(start, connect, runtime_dir, monkeypatch, kept_traces):
    """``comparison(pieces=8)``: (what it holds beside what it should, torch's own counters)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(kept_traces))

    def compare(pieces):
        training = Training(start(PREAMBLE + TRAINING.format(pieces=pieces)))
        collector = Collector("host", 0.25)
        fleet = Fleet()
        try:
            training.begin(40)
            end = time.monotonic() + LIMIT_S
            while time.monotonic() < end:
                fleet = reduce(fleet, collector.read_once())
                found = [p for p in fleet.processes if p.pid == training.pid]
                if found and detail_of(found[0], "cuda:0"):
                    break
            stats = training.end()
            made = of_fleet(fleet, lambda _: None, LIMIT_S)[found[0].key]
        finally:
            collector.stop()
        assert made.problem == ""
        return made.comparison, stats

    return compare


def test_reserved_is_as_predicted_in_a_healthy_process(comparison):
    found, stats = comparison(pieces=0)
    assert (found.differs, found.reasons) == (False, ())
    cached = found.moment("peak").pair("cached")
    reserved = found.moment("peak").total.actual_bytes + cached.actual_bytes
    assert reserved == stats["reserved_bytes.all.current"]


def test_holes_that_serve_nothing_are_fragmentation(comparison):
    found, stats = comparison(pieces=16)
    assert found.differs
    (reason,) = found.reasons
    assert (reason.kind, reason.category) == ("fragmentation", "cached")
    reserved, most = (
        stats[f"{name}_bytes.all.{when}"]
        for name, when in (("reserved", "current"), ("allocated", "peak"))
    )
    over = round(100 * (reserved / most - 1))
    assert reason.text.startswith(f"reserved {over} % over allocated: fragmentation (+")
    assert reason.bytes < reserved - most
