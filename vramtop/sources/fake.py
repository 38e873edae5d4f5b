"""A FAKE source for tests and for work on panes: made-up snapshots, the same in every run."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from typing import Final

from ..core.memory import Breakdown
from ..core.model import (
    AllocatorStats,
    Device,
    DeviceMemory,
    DeviceUse,
    HistoryPoint,
    Host,
    MigDevice,
    Probe,
    ProbeDevice,
    Problem,
    Process,
    Snapshot,
)
from .fake_job import model, optimizer
from .fake_memory import (
    HISTORY_S,
    RESERVED_SCALES,
    boundary_at,
    cpu_breakdown,
    detail,
    gpu_breakdown,
    segment_map,
    stages,
    step_at,
)

SCENARIOS: Final = ("training", "fleet", "nogpu")
"""``training``: two GPUs with three processes, a MIG GPU, a lost GPU, an invisible pid.
``fleet``: eight GPUs with eight ranks each. ``nogpu``: the host's RAM as the device."""
START_S: Final = 1_760_000_000.0
"""When the made-up time begins."""

_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_LOST_AFTER_S: Final = 5.0


def snapshots(scenario: str, start_s: float = START_S, period_s: float = 1.0) -> Iterator[Snapshot]:
    """Endless snapshots of a scenario, ``period_s`` apart; the values depend on the time only.

    Raises:
        KeyError: the scenario is none of ``SCENARIOS``.
    """
    read = {"training": _training, "fleet": _fleet, "nogpu": _nogpu}[scenario]
    tick = 0
    while True:
        yield read(start_s, start_s + tick * period_s, period_s)
        tick += 1


class FakeSource:
    """Delivers a scenario's snapshots from a thread (a ``SnapshotSource``)."""

    def __init__(self, scenario: str = "training", period_s: float = 1.0) -> None:
        self.period_s = period_s
        self._snapshots = snapshots(scenario, period_s=period_s)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, deliver: Callable[[Snapshot], None]) -> None:
        """Deliver the first snapshot at once and then one every ``period_s``."""

        def run() -> None:
            for snapshot in self._snapshots:
                deliver(snapshot)
                if self._stopping.wait(self.period_s):
                    return

        self._thread = threading.Thread(target=run, name="vramtop-fake", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)


def _training(start_s: float, now: float, period_s: float) -> Snapshot:
    """Every state that a pane must be able to show."""
    job = _job(start_s, now, "GPU-fake-0", scale_bytes=_GIB, rank=None)
    trained = job.devices[0].breakdown
    trained_bytes = trained.process_bytes if trained else None
    lost = now - start_s >= _LOST_AFTER_S
    devices = (
        _gpu(0, (trained_bytes or 0) + 3 * _GIB + 300 * _MIB, unattributed_bytes=300 * _MIB),
        _gpu(1, 9 * _GIB, unattributed_bytes=None),
        Device(
            index=2,
            uuid="GPU-fake-2",
            name="Fake A100-SXM4-40GB",
            backend="nvml",
            memory=_memory(40 * _GIB, 6 * _GIB, 0),
            temperature_c=41.0,
            power_w=88.0,
            power_limit_w=400.0,
            mig=tuple(
                MigDevice(
                    index=index,
                    uuid=f"MIG-fake-2-{index}",
                    name="Fake A100-SXM4-40GB MIG 3g.20gb",
                    memory=_memory(20 * _GIB, used, 0),
                    gpu_instance_id=index + 1,
                    compute_instance_id=0,
                )
                for index, used in ((0, 6 * _GIB), (2, 0))
            ),
        ),
        Device(
            index=3,
            uuid="GPU-fake-3",
            name="Fake H100 PCIe",
            backend="nvml",
            memory=_memory(80 * _GIB, 20 * _GIB, 20 * _GIB),
            stale_s=now - start_s - _LOST_AFTER_S if lost else None,
        ),
    )
    processes = (
        Process(
            pid=4101,
            started_at=start_s - 600,
            user="ada",
            command="python train.py --config gpt2-medium.toml",
            devices=(DeviceUse("GPU-fake-0", trained_bytes, "C"),),
            host_rss_bytes=3 * _GIB,
            cpu_percent=101.0,
            probe=job,
        ),
        Process(
            pid=4102,
            started_at=start_s - 5000,
            user="grace",
            command="python -m vllm.entrypoints.openai.api_server",
            devices=(DeviceUse("GPU-fake-0", 3 * _GIB, "C"), DeviceUse("GPU-fake-1", None, "C")),
            host_rss_bytes=7 * _GIB,
            cpu_percent=35.0,
            container="3f2a9c01b7de",
        ),
        Process(
            pid=4103,
            started_at=start_s - 90,
            user="ada",
            command="python notebook.py",
            devices=(DeviceUse("MIG-fake-2-0", 6 * _GIB, "C"),),
            host_rss_bytes=_GIB,
            cpu_percent=0.0,
            probe=Probe(state="waiting", python="3.12.3"),
        ),
        Process(
            pid=990001,
            started_at=None,
            state="invisible",
            devices=(DeviceUse("GPU-fake-1", 2 * _GIB, "C"),),
        ),
    )
    problems = (Problem("GPU 3", "GPU is lost; reset it or reboot"),) if lost else ()
    return Snapshot(now, _host(), devices, processes, problems, period_s)


def _fleet(start_s: float, now: float, period_s: float) -> Snapshot:
    """Eight GPUs, a rank on each and seven small processes beside it; rank 3 holds more."""
    devices = []
    processes = []
    for index in range(8):
        uuid = f"GPU-fake-{index}"
        scale = 5 if index == 3 else 4
        job = _job(start_s, now, uuid, scale_bytes=scale * _GIB, rank=index)
        held = job.devices[0].breakdown
        rank_bytes = (held.process_bytes if held else None) or 0
        small = 7 * 400 * _MIB
        devices.append(_gpu(index, rank_bytes + small, unattributed_bytes=0))
        for slot in range(8):
            is_rank = slot == 0
            processes.append(
                Process(
                    pid=5000 + 10 * index + slot,
                    started_at=start_s - 1000 - slot,
                    user="ada" if is_rank else f"user{slot}",
                    command="python -u pretrain.py" if is_rank else f"python worker_{slot}.py",
                    devices=(DeviceUse(uuid, rank_bytes if is_rank else 400 * _MIB, "C"),),
                    host_rss_bytes=2 * _GIB,
                    cpu_percent=100.0 if is_rank else float(slot),
                    probe=job if is_rank else Probe(state="none"),
                )
            )
    return Snapshot(now, _host(), tuple(devices), tuple(processes), (), period_s)


def _nogpu(start_s: float, now: float, period_s: float) -> Snapshot:
    """A training on the CPU of a machine without an NVIDIA driver."""
    breakdown = cpu_breakdown(start_s, now)
    rss = breakdown.process_bytes or 0
    host = _host()
    used = 6 * _GIB + rss
    device = Device(
        index=0,
        uuid="host",
        name="host RAM",
        backend="host",
        memory=DeviceMemory(host.ram_total_bytes, used, (host.ram_total_bytes or 0) - used),
        utilization_percent=52.0,
    )
    trained = Process(
        pid=4201,
        started_at=start_s - 60,
        user="ada",
        command="python train.py --device cpu",
        devices=(DeviceUse("host", rss, "H"),),
        host_rss_bytes=rss,
        cpu_percent=198.0,
        probe=_probe(
            start_s,
            now,
            None,
            (
                ProbeDevice(
                    "cpu",
                    None,
                    None,
                    breakdown,
                    detail=detail(start_s, now, 100 * _MIB),
                    stages=stages(start_s, now, 100 * _MIB),
                    boundary=boundary_at(start_s, now),
                ),
            ),
            _history("cpu", start_s, now, cpu_breakdown),
        ),
    )
    other = Process(
        pid=812,
        started_at=start_s - 90000,
        user="root",
        command="/usr/bin/dockerd",
        devices=(DeviceUse("host", 180 * _MIB, "H"),),
        host_rss_bytes=180 * _MIB,
        cpu_percent=0.3,
    )
    problem = Problem("nvml", "no NVIDIA driver library on this machine; showing the host")
    return Snapshot(now, host, (device,), (trained, other), (problem,), period_s)


def _job(start_s: float, now: float, uuid: str, *, scale_bytes: int, rank: int | None) -> Probe:
    """A streaming probe of a training on a GPU, with its past in the first snapshot."""
    breakdown = gpu_breakdown(start_s, now, scale_bytes)
    segments = segment_map(now, breakdown)
    allocated = breakdown.tensor_bytes
    reserved = RESERVED_SCALES * scale_bytes
    allocator = AllocatorStats(
        allocated_bytes=allocated,
        reserved_bytes=reserved,
        active_bytes=allocated,
        requested_bytes=allocated - 3 * _MIB,
        inactive_split_bytes=breakdown.fragmentation_bytes,
        peak_allocated_bytes=10 * scale_bytes,
        peak_reserved_bytes=reserved,
        segments=len(segments.segments),
        alloc_retries=0,
        ooms=0,
    )
    history = _history(
        "cuda:0", start_s, now, lambda start_s, at: gpu_breakdown(start_s, at, scale_bytes)
    )
    part = ProbeDevice(
        "cuda:0",
        uuid,
        allocator,
        breakdown,
        detail=detail(start_s, now, scale_bytes),
        segments=segments,
        stages=stages(start_s, now, scale_bytes),
        boundary=boundary_at(start_s, now),
    )
    return _probe(start_s, now, rank, (part,), history)


def _probe(
    start_s: float,
    now: float,
    rank: int | None,
    devices: tuple[ProbeDevice, ...],
    history: dict[str, tuple[HistoryPoint, ...]] | None = None,
) -> Probe:
    step = step_at(start_s, now)
    return Probe(
        state="streaming",
        at=now,
        python="3.12.3",
        torch="2.13.0",
        cuda="12.8",
        rank=rank,
        local_rank=rank,
        world_size=None if rank is None else 8,
        group=None if rank is None else "fakehost:29500",
        step=step,
        steps_per_s=3.2 + 0.1 * math.sin(now / 7),
        overhead_percent=0.12,
        models=(model(is_rank=rank is not None),),
        optimizers=(optimizer(step),),
        devices=devices,
        history=history,
        detail="ready",
    )


def _history(
    torch_device: str, start_s: float, now: float, breakdown: Callable[[float, float], Breakdown]
) -> dict[str, tuple[HistoryPoint, ...]] | None:
    """What the probe kept before we came; with the first snapshot only."""
    if now != start_s:
        return None
    times = [start_s - age for age in range(HISTORY_S, 0, -1)]
    points = tuple(HistoryPoint(at, step_at(start_s, at), breakdown(start_s, at)) for at in times)
    return {torch_device: points}


def _gpu(index: int, used_bytes: int, unattributed_bytes: int | None) -> Device:
    return Device(
        index=index,
        uuid=f"GPU-fake-{index}",
        name="Fake H100 80GB HBM3",
        backend="nvml",
        memory=_memory(80 * _GIB, used_bytes, unattributed_bytes),
        utilization_percent=97.0 if index == 0 else 12.0,
        temperature_c=61.0,
        power_w=512.0,
        power_limit_w=700.0,
        sm_clock_mhz=1980,
        memory_clock_mhz=2619,
    )


def _memory(total_bytes: int, used_bytes: int, unattributed_bytes: int | None) -> DeviceMemory:
    reserved = 560 * _MIB
    return DeviceMemory(
        total_bytes=total_bytes,
        used_bytes=used_bytes,
        free_bytes=total_bytes - reserved - used_bytes,
        driver_reserved_bytes=reserved,
        unattributed_bytes=unattributed_bytes,
    )


def _host() -> Host:
    return Host(
        hostname="fakehost",
        ram_total_bytes=64 * _GIB,
        ram_used_bytes=12 * _GIB,
        cpu_percent=52.0,
        driver_version="570.86.10",
        cuda_driver_version="12.8",
    )
