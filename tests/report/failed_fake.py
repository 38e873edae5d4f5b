"""The fake training after an allocation in it has failed, or after it was lost."""

from dataclasses import replace
from itertools import islice

from vramtop.core.failure import Failure
from vramtop.core.model import PostMortem
from vramtop.sources.fake import snapshots

GIB = 1 << 30
PID = 4101
FAILURE = Failure(
    kind="oom",
    at=0.0,
    device="cuda:0",
    step=541,
    phase="backward",
    module="transformer.h.11.mlp",
    module_source="exact",
    requested_bytes=2 * GIB,
    free_bytes=GIB,
    total_bytes=80 * GIB,
    caught=False,
    file="/run/4101-1-0.postmortem.json",
)


def failed(failure=FAILURE, ticks=40, caught_ooms=0, state="gone"):
    """Snapshots of which the last says so."""
    shots = list(islice(snapshots("training"), ticks))
    last = shots[-1]
    failure = replace(failure, at=last.taken_at)

    def ended(process):
        if process.pid != PID:
            return process
        alive = state != "gone"
        probe = replace(
            process.probe,
            state="streaming" if alive else "gone",
            failure=failure,
            caught_ooms=caught_ooms,
        )
        return replace(process, state="running" if alive else "gone", probe=probe)

    processes = tuple(ended(process) for process in last.processes)
    return [*shots[:-1], replace(last, processes=processes)]


def post_mortem(failure=FAILURE, traceback=None, written_by="probe"):
    """As a file would say it: its past is in the one snapshot."""
    shots = failed(failure)
    last, first = shots[-1], shots[0]
    past = next(p for p in first.processes if p.pid == PID).probe.history
    process = next(p for p in last.processes if p.pid == PID)
    process = replace(process, probe=replace(process.probe, history=past))
    alone = replace(last, processes=(process,))
    return PostMortem(alone, process.probe.failure, last.taken_at, written_by, traceback)
