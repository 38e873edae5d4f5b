"""How fast the estimator answers: ``python -m tests.bench estimate_speed [--runs 3]``.

The trace is timed from the start of its process and from the end of its imports; every run is a
new process without the cache. The closed form, a replay and a point of the curve are timed here.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import timeit

from tests.bench.machine import ROOT, print_table

MODELS = ("llama-2-7b", "llama-3.1-70b", "llama-3.1-405b")
_TRACER = """
import gc, json, resource, sys, time
began = time.perf_counter()
gc.disable()
from vramtop.trace.build import build
from vramtop.trace.run import trace_batches
from vramtop.estimator.workload import from_json
workload = from_json(json.loads(sys.stdin.readline()))
build(workload)  # imports the module of the model's family
imported = time.perf_counter()
traces = trace_batches(workload, [2, 3], lambda *_: None)
ended = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([imported - began, ended - imported, peak]))
"""


def workload_of(name):
    from vramtop.estimator.catalog import find_model
    from vramtop.estimator.workload import Workload

    return Workload(find_model(name), batch=4, sequence=512)


def traced(workload):
    """(import s, trace s, peak bytes) in a new process."""
    from vramtop.estimator.workload import to_json

    request = json.dumps(to_json(workload)) + "\n"
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    done = subprocess.run(
        [sys.executable, "-c", _TRACER],
        input=request,
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=environment,
    )
    return json.loads(done.stdout.splitlines()[-1])


def command(name, cache):
    """Seconds that ``vramtop estimate`` takes as a user starts it."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "vramtop", "estimate", name, "--batch", "4", "--seq", "512"],
        stdout=subprocess.DEVNULL,
        check=True,
        cwd=ROOT,
        env=dict(os.environ, XDG_CACHE_HOME=cache),
    )
    return time.perf_counter() - began


def trace_rows(runs):
    for name in MODELS:
        measured = [traced(workload_of(name)) for _ in range(runs)]
        imports, traces, peaks = (
            statistics.median(column) for column in zip(*measured, strict=True)
        )
        with tempfile.TemporaryDirectory() as cache:
            cold = command(name, cache)
            again = command(name, cache)
        yield (
            name,
            f"{imports:.2f} s",
            f"{traces:.2f} s",
            f"{imports + traces:.2f} s",
            f"{peaks / 2**20:.0f} MiB",
            f"{cold:.2f} s",
            f"{again:.2f} s",
        )


def seconds_of(function, number):
    return min(timeit.repeat(function, number=number, repeat=5)) / number


def answer_rows():
    from vramtop import predict
    from vramtop.estimator import closed

    for name in MODELS:
        workload = workload_of(name)
        closed_s = seconds_of(lambda w=workload: closed.predictor(w).at(w.batch), 20)
        made = predict.predictor(workload, "trace")
        replay_s = seconds_of(lambda p=made, w=workload: p.replay(w.batch), 1)
        made.process_bytes(5)
        point_s = seconds_of(lambda p=made: p.process_bytes(9), 1000)
        yield (
            name,
            f"{closed_s * 1e3:.3f} ms",
            f"{replay_s * 1e3:.0f} ms",
            f"{point_s * 1e6:.1f} µs",
        )


def main(options=()):
    parser = argparse.ArgumentParser(prog="python -m tests.bench estimate_speed")
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args(list(options)).runs
    print_table(
        f"A training's trace at batch 2 and 3, sequence 512 (medians of {runs} runs)",
        ("model", "imports", "trace", "together", "peak RSS", "vramtop estimate", "again, cached"),
        list(trace_rows(runs)),
    )
    print_table(
        "An answer once there is a trace, and without one (best of 5)",
        ("model", "closed form", "allocator replay", "a point of the curve"),
        list(answer_rows()),
    )
