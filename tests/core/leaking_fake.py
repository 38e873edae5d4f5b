"""A made-up snapshot whose training has leaked for a minute, as its probe's own past tells."""

from dataclasses import replace
from itertools import islice

from vramtop.core.model import HistoryPoint
from vramtop.sources.fake import snapshots

LEAK_BYTES_PER_S = 15 << 20
SECONDS = 60


def leaking_snapshot(index=1, rate=LEAK_BYTES_PER_S):
    """The snapshot number ``index`` of a host without a GPU; 55.8 GB of its RAM are free."""
    snapshot = next(islice(snapshots("nogpu"), index, None))
    (training,) = (p for p in snapshot.processes if p.probe.state == "streaming")
    (part,) = training.probe.devices
    past = tuple(
        HistoryPoint(
            training.probe.at - ago,
            training.probe.step - 3 * ago,
            replace(part.breakdown, process_bytes=part.breakdown.process_bytes - ago * rate),
        )
        for ago in range(SECONDS, 0, -1)
    )
    leaking = replace(training, probe=replace(training.probe, history={"cpu": past}))
    others = tuple(p for p in snapshot.processes if p is not training)
    return replace(snapshot, processes=(leaking, *others))
