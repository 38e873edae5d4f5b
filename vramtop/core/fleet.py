"""All that is known over time: a pure reducer from one snapshot to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from .forecast import Forecast
from .history import History
from .memory import Breakdown
from .model import Device, HistoryPoint, Host, MigDevice, Process, Snapshot
from .observed import ObservedPeak, observe

ProcessKey = tuple[int, float | None]
HistoryKey = tuple[ProcessKey, str]
"""A process's key and a torch device's name."""

GONE_KEPT_S: Final = 60.0
"""How long a process that ended stays on the screen, with its history."""
MAX_FAILED: Final = 8
"""Of those that failed, or were lost, so many stay for as long as the screen does."""
MAX_DEVICE_POINTS: Final = 300

_NOTHING: Final = Snapshot(
    taken_at=0.0, host=Host("", None, None), devices=(), processes=(), problems=()
)


@dataclass(frozen=True, slots=True)
class Gone:
    """A process that is in the snapshot no more, as it was last seen."""

    process: Process
    last_seen_at: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """The last snapshot and what remains of those before it; ``Fleet()`` is before any."""

    snapshot: Snapshot = _NOTHING
    histories: Mapping[HistoryKey, History] = field(default_factory=dict)
    first: Mapping[HistoryKey, HistoryPoint] = field(default_factory=dict)
    """The earliest point known, what "change since start" counts from."""
    gone: Mapping[ProcessKey, Gone] = field(default_factory=dict)
    device_used: Mapping[str, tuple[tuple[float, int | None], ...]] = field(default_factory=dict)
    """(time, used bytes) by the uuid of a device or MIG instance, oldest first."""
    observed: Mapping[HistoryKey, tuple[ObservedPeak, ...]] = field(default_factory=dict)
    """The largest peak of each (batch, sequence) that was sampled in detail, smallest first."""
    forecasts: Mapping[HistoryKey, Forecast] = field(default_factory=dict)
    """Where there is something to say; made by ``outlook.foresee``, a reducer's result has none."""

    @property
    def is_waiting(self) -> bool:
        """No snapshot has come yet."""
        return self.snapshot is _NOTHING

    @property
    def processes(self) -> tuple[Process, ...]:
        """The snapshot's processes, then those that have left it not long ago."""
        if not self.gone:
            return self.snapshot.processes
        return self.snapshot.processes + tuple(gone.process for gone in self.gone.values())

    def process(self, key: ProcessKey) -> Process | None:
        """The process of that key, ended or not; None when it is forgotten."""
        return next((process for process in self.processes if process.key == key), None)


def reduce(fleet: Fleet, snapshot: Snapshot) -> Fleet:
    """The fleet after one more snapshot; neither argument changes.

    Every snapshot must pass through here, also one that is never shown: a probe gives its own
    history only once.
    """
    snapshot = _identified(fleet, snapshot)
    histories = dict(fleet.histories)
    first = dict(fleet.first)
    observed = dict(fleet.observed)
    present: set[ProcessKey] = set()
    for process in snapshot.processes:
        key = (process.pid, process.started_at)
        present.add(key)
        if process.probe.devices or process.probe.history:
            _record(process, key, histories, first)
        for part in process.probe.devices:
            peaks = observe(observed.get((key, part.device), ()), process, part.detail)
            if peaks:
                observed[key, part.device] = peaks
    gone = _gone(fleet, snapshot, present)
    known = present | gone.keys()
    for history_key in [key for key in histories if key[0] not in known]:
        del histories[history_key]
        first.pop(history_key, None)
    observed = {place: peaks for place, peaks in observed.items() if place[0] in known}
    return Fleet(snapshot, histories, first, gone, _device_used(fleet, snapshot), observed)


def _identified(fleet: Fleet, snapshot: Snapshot) -> Snapshot:
    """Give processes that have just died what was known of them; their state says they are gone."""
    if not any(_is_ending(process) for process in snapshot.processes):
        return snapshot
    known = {process.pid: process for process in reversed(fleet.processes)}
    return replace(
        snapshot,
        processes=tuple(
            _remembered(process, known.get(process.pid)) for process in snapshot.processes
        ),
    )


def _is_ending(process: Process) -> bool:
    """Whether it is known no more; a program without resident memory is just being taken down."""
    return process.started_at is None or process.state == "gone" or process.host_rss_bytes == 0


def _remembered(process: Process, before: Process | None) -> Process:
    if before is None or process.started_at not in {None, before.started_at}:
        return process
    if not _is_ending(process):
        return process
    probe = process.probe
    if "gone" in {process.state, probe.state} and before.probe.devices:
        # With the driver's figure beside its own, which now cannot be read.
        probe = replace(
            before.probe,
            state="gone",
            steps_per_s=None,
            history=probe.history,
            failure=probe.failure or before.probe.failure,
            caught_ooms=max(probe.caught_ooms, before.probe.caught_ooms),
            ended=probe.ended,
        )
    return replace(
        process,
        started_at=before.started_at,
        user=process.user or before.user,
        command=before.command or process.command,  # the kernel's name for it says less
        # Of a process that is dead and not yet reaped the host says 0.
        devices=process.devices
        if any(use.used_bytes for use in process.devices)
        else before.devices or process.devices,
        host_rss_bytes=process.host_rss_bytes or before.host_rss_bytes,
        probe=probe,
    )


def _record(
    process: Process,
    key: ProcessKey,
    histories: dict[HistoryKey, History],
    first: dict[HistoryKey, HistoryPoint],
) -> None:
    probe = process.probe
    for name, points in (probe.history or {}).items():
        if points:
            history_key = (key, name)
            histories[history_key] = histories.get(history_key, History()).merge(points)
            oldest = min(points, key=lambda point: point.at)
            known = first.get(history_key)
            if known is None or oldest.at < known.at:
                first[history_key] = oldest
    if probe.at is None or probe.state != "streaming":
        return
    for device in probe.devices:
        if device.breakdown is None:
            continue
        history_key = (key, device.device)
        history = histories.get(history_key)
        point = HistoryPoint(probe.at, probe.step, device.breakdown)
        histories[history_key] = (history or History()).append(point)
        earliest = first.get(history_key)
        first[history_key] = point if earliest is None else _completed(earliest, point.breakdown)


def _completed(earliest: HistoryPoint, now: Breakdown) -> HistoryPoint:
    """What was not known at first is counted from when it is."""
    known = earliest.breakdown
    # A probe's own history cannot know the driver's figure.
    if known.outside_allocator_bytes is None and now.outside_allocator_bytes is not None:
        known = replace(
            known,
            outside_allocator_bytes=now.outside_allocator_bytes,
            process_bytes=now.process_bytes,
        )
    if known.activation_bytes is None and now.activation_bytes is not None:
        known = _with_detail(known, now)
    return earliest if known is earliest.breakdown else replace(earliest, breakdown=known)


def _with_detail(known: Breakdown, now: Breakdown) -> Breakdown:
    """Take from ``now`` what only a step sampled in detail can tell.

    On the CPU that was part of the rest: it leaves it, so that the changes still sum to the
    process's.
    """
    outside = known.outside_allocator_bytes
    if now.cached_bytes is None and outside is not None:
        moved = now.tensor_bytes - (
            now.parameter_bytes + now.gradient_bytes + now.optimizer_state_bytes
        )
        outside = outside - moved if outside >= moved else now.outside_allocator_bytes
    return replace(
        known,
        activation_bytes=now.activation_bytes,
        input_bytes=now.input_bytes,
        temporary_bytes=now.temporary_bytes,
        autograd_detail_bytes=now.autograd_detail_bytes,
        unknown_bytes=now.unknown_bytes,
        outside_allocator_bytes=outside,
    )


def _gone(fleet: Fleet, snapshot: Snapshot, present: set[ProcessKey]) -> dict[ProcessKey, Gone]:
    past = [(key, entry) for key, entry in fleet.gone.items() if key not in present]
    failed = [key for key, entry in past if _has_failed(entry.process)]
    failed += [p.key for p in fleet.snapshot.processes if p.key not in present and _has_failed(p)]
    gone = {
        key: entry
        for key, entry in past
        if snapshot.taken_at - entry.last_seen_at <= GONE_KEPT_S or key in failed[-MAX_FAILED:]
    }
    readable = {
        part.uuid
        for device in snapshot.devices
        if device.stale_s is None
        for part in _parts(device)
    }
    for process in fleet.snapshot.processes:
        if process.key not in present and (_has_failed(process) or _is_missed(process)):
            gone[process.key] = Gone(_ended(process, readable), fleet.snapshot.taken_at)
    return gone


def _ended(process: Process, readable: set[str]) -> Process:
    """The process as it was, marked; where its device cannot be read it may well be alive."""
    is_known = _has_failed(process) or (
        bool(readable) and all(use.uuid in readable for use in process.devices)
    )
    probe = process.probe
    if probe.state != "none":
        probe = replace(probe, state="gone" if is_known else "stale", history=None)
    return replace(process, state="gone" if is_known else "invisible", probe=probe)


def _has_failed(process: Process) -> bool:
    """Whether it ended in a failure that somebody will ask about."""
    failure = process.probe.failure
    return failure is not None and not failure.caught and process.probe.state == "gone"


def _is_missed(process: Process) -> bool:
    if "gone" in {process.state, process.probe.state}:
        return False  # its end has been shown while the source still listed it
    # A process without a probe that only held host memory may just have left a list of the
    # largest ones, and is nobody's loss if it has ended.
    return process.probe.state != "none" or any(use.kind != "H" for use in process.devices)


def _device_used(
    fleet: Fleet, snapshot: Snapshot
) -> dict[str, tuple[tuple[float, int | None], ...]]:
    used: dict[str, tuple[tuple[float, int | None], ...]] = {}
    for device in snapshot.devices:
        for part in _parts(device):
            past = fleet.device_used.get(part.uuid, ())
            # A stale device's figure is an old one: a hole in the line, not a flat piece.
            now = part.memory.used_bytes if device.stale_s is None else None
            used[part.uuid] = (*past[-(MAX_DEVICE_POINTS - 1) :], (snapshot.taken_at, now))
    return used


def _parts(device: Device) -> tuple[Device | MigDevice, ...]:
    return (device, *device.mig)
