"""Attaching to trainings that nobody has prepared: does any die, hang or change, how long a pause?

``python -m tests.bench attach [--attaches N] [--memray N] [--python PATH ...]``: each interpreter
trains in each situation of its main thread; vramtop attaches, waits for the breakdown, checks it
and detaches, several times a process. The losses are compared bit by bit with those of an
undisturbed run of the same interpreter. memray's attach, where the interpreter has memray, is
done to the same targets beside it. PATH may be a script that starts a Python (in another root
directory, say), as long as it becomes it.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.bench.attach_run import (
    NEEDS_TORCH,
    SITUATIONS,
    Attempt,
    StandStill,
    memray_attempt,
    play,
    undisturbed,
)
from tests.bench.machine import print_table
from vramtop.errors import AttachFailed, AttachRefused
from vramtop.inject import attacher
from vramtop.sources.probes import ProbeClients

PARAMETER_BYTES = 4 * (64 * 256 + 256 + 256 * 10 + 10)
STATE_BYTES = 2 * PARAMETER_BYTES + 4 * 4
"""AdamW's two moments, and a step count for each of the four parameters."""
BREAKDOWN_LIMIT_S = 30.0
HEADS = ("attaches", "faults", "pause ms", "seen ms", "own gap ms", "else ms", "wait s", "losses")


@dataclass(frozen=True)
class Python:
    """An interpreter to train with."""

    command: tuple
    name: str
    has_torch: bool
    has_memray: bool


def examine(path):
    """What an interpreter is and has; None if it is none that can be attached to."""
    code = (
        "import sys, importlib.util as u\n"
        "print('%d.%d.%d' % sys.version_info[:3], *(bool(u.find_spec(n)) for n in "
        "('torch', 'memray')))"
    )
    done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    if len(words) != 3 or tuple(map(int, words[0].split(".")[:2])) < (3, 9):
        return None
    name = words[0] if words[1] == "True" else f"{words[0]} no torch"
    return Python((str(path),), name, words[1] == "True", words[2] == "True")


def found():
    """The interpreter that runs this, and one of each other version that pyenv or PATH has."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    paths = [sys.executable, *sorted(root.glob("versions/*/bin/python"))]
    paths += filter(None, (shutil.which(f"python3.{minor}") for minor in range(9, 20)))
    versions = {}
    for python in filter(None, map(examine, paths)):
        versions.setdefault(python.name.split()[0].rpartition(".")[0], python)
    return list(versions.values())


def breakdown_fault(pid, has_torch):
    """Wait until the process tells of its training; what is wrong with that, empty if nothing."""
    clients, until = ProbeClients(0.1), time.monotonic() + BREAKDOWN_LIMIT_S
    said = "no hello"
    try:
        while time.monotonic() < until:
            probe = clients.read()[0].get(pid)
            if probe is not None and probe.python is not None:
                said = "no breakdown"
                if not has_torch:
                    return "" if probe.torch is None and not probe.devices else "torch from nowhere"
                rows = [device.breakdown for device in probe.devices if device.breakdown]
                if rows and rows[0].optimizer_state_bytes:
                    right = rows[0].parameter_bytes, rows[0].optimizer_state_bytes
                    return "" if right == (PARAMETER_BYTES, STATE_BYTES) else f"counted {right}"
            time.sleep(0.02)
    finally:
        clients.close()
    return said


def own_attempt(python):
    """An attempt of vramtop's own."""

    def attempt(pid):
        done = Attempt(time.monotonic())
        with StandStill(pid) as stood:
            try:
                attached = attacher.attach(pid)
            except (AttachFailed, AttachRefused) as error:
                gave_up = isinstance(error, AttachFailed)
                done.fault, done.detail = "given up" if gave_up else "refused", str(error)
            done.ended = time.monotonic()
        done.seen_s = stood.seconds
        if done.fault:
            return done
        done.method, done.said_s = attached.method, attached.pause_s
        done.waited_s = attached.waited_s
        done.fault = breakdown_fault(pid, python.has_torch)
        try:
            attacher.detach(pid)
        except (AttachFailed, AttachRefused) as error:
            done.fault, done.detail = done.fault or "not detached", str(error)
        return done

    return attempt


def spread(seconds, scale=1000, form=".0f"):
    """Median and worst of those that are known."""
    known = [scale * value for value in seconds if value is not None]
    return f"{statistics.median(known):{form}} / {max(known):{form}}" if known else "–"


def row(case, reference):
    """One line of the table."""
    attempts = case.attempts
    faults = Counter(attempt.fault for attempt in attempts if attempt.fault)
    faults.update([case.fault] if case.fault else [])
    same = bool(case.losses) and case.losses == reference[: len(case.losses)]
    return (
        f"{case.situation}, {case.python}",
        len(attempts),
        ", ".join(f"{count} {fault}" for fault, count in faults.items()) or 0,
        spread(attempt.said_s for attempt in attempts),
        spread(attempt.seen_s for attempt in attempts),
        spread(case.own_gaps()),
        f"{1000 * case.gap_otherwise():.0f}",
        spread((attempt.waited_s for attempt in attempts), 1, ".2f"),
        f"equal ({len(case.losses)})" if same else "DIFFERENT",
    )


def print_cases(title, cases, references):
    """The table of a tool, and its sums."""
    rows = [row(case, references[case.python]) for case in cases]
    print_table(title, ("situation, Python", *HEADS), rows)
    attempts = [attempt for case in cases for attempt in case.attempts]
    counts = Counter(attempt.fault for attempt in attempts if attempt.fault)
    counts.update(case.fault for case in cases if case.fault)
    print(
        f"{len(attempts)} attaches to {len(cases)} processes; faults: {dict(counts) or 'none'}; "
        f"different losses: {sum(line[-1] == 'DIFFERENT' for line in rows)}; "
        f"pause {spread(a.said_s for a in attempts)} ms, seen {spread(a.seen_s for a in attempts)}"
        f" ms, wait {spread((a.waited_s for a in attempts), 1, '.2f')} s (median / worst)"
    )
    for case in cases:
        for attempt in case.attempts:
            if attempt.fault:
                print(f"- {case.situation}, {case.python}: {attempt.fault}: {attempt.detail}")
        if case.fault:
            print(f"- {case.situation}, {case.python}: {case.fault}; see {case.folder}")


def main(options=()):
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench attach")
    parser.add_argument("--attaches", type=int, default=200, help="vramtop's, of all together")
    parser.add_argument("--memray", type=int, default=2, help="memray's to each target")
    parser.add_argument("--python", nargs="+", type=Path, help="interpreters to train with")
    parser.add_argument("--situation", choices=SITUATIONS, action="append", help="only this one")
    asked = parser.parse_args(list(options))
    pythons = [examine(path) for path in asked.python] if asked.python else found()
    if None in pythons:
        sys.exit(f"no Python ≥ 3.9: {asked.python[pythons.index(None)]}")
    plan = [
        (python, situation)
        for python in pythons
        for situation in asked.situation or SITUATIONS
        if python.has_torch or situation not in NEEDS_TORCH
    ]
    each = -(-asked.attaches // len(plan))
    folder = Path(tempfile.mkdtemp(prefix="vramtop-attach-"))
    ours, memrays, references = [], [], {}
    for python, situation in plan:
        began = time.monotonic()
        ours.append(play(python, situation, folder, each, own_attempt(python)))
        _tell("vramtop", ours[-1], began)
        if python.has_memray and asked.memray:
            began = time.monotonic()
            attempt = memray_attempt(python, folder)
            memrays.append(play(python, situation, folder, asked.memray, attempt))
            _tell("memray", memrays[-1], began)
    for python in pythons:
        made = [len(case.losses) for case in ours + memrays if case.python == python.name]
        references[python.name] = undisturbed(python, max(made, default=1), folder)
    print_cases("vramtop attach and detach", ours, references)
    if memrays:
        print_cases("memray attach -o FILE and detach, same targets", memrays, references)
    print(
        "\npause: what the tool says; seen: stopped by a tracer, as seen from outside; own gap: how"
        "\nlong a clock thread in the target stood still during an attach (a call that holds the"
        "\ninterpreter's lock stops it as well), else: without one; wait: until the code ran"
        "\n(memray: the whole command). Median / worst; losses: of how many steps."
    )
    if not any(case.fault for case in ours + memrays):
        shutil.rmtree(folder)


def _tell(tool, case, began):
    faults = [attempt.fault for attempt in case.attempts if attempt.fault]
    print(
        f"{tool}: {case.situation}, {case.python}: {len(case.attempts)} attaches in "
        f"{time.monotonic() - began:.0f} s {faults or ''} {case.fault}",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
