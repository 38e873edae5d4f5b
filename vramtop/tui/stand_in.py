"""What is explored before, or in place of, the selected process: a small model on its GPU."""

from __future__ import annotations

from typing import Final

from ..core.breakdowns import detail_of, probe_device_of
from ..core.model import Device, Process
from ..core.observed import batch_and_sequence
from ..errors import UsageError
from ..estimator.catalog import find_gpu, find_model
from ..estimator.live.device import device_of
from ..estimator.workload import Device as Gpu
from ..estimator.workload import Model, Workload
from .frame import Frame

MODEL: Final = "gpt2"
_GPU: Final = "4090"
"""Where there is none."""


def stand_in(frame: Frame) -> tuple[Workload, int, str]:
    """(workload, bytes that others use of its GPU, which GPU that is in a word)."""
    gpu, used_bytes, where = _room(frame)
    model = find_model(MODEL)
    assert model is not None
    return Workload(model, batch=8, sequence=1024, device=gpu), used_bytes, where


def why_not_live(frame: Frame) -> str:
    """Why there is no live training to explore; "" where there is one."""
    process = frame.process
    if process is None:
        return "no process is selected"
    if frame.part is None or frame.part.breakdown is None:
        return f"process {process.pid} has no probe (vramtop run -- … gives it one)"
    return ""


def named(frame: Frame, process: Process, torch_device: str) -> Workload:
    """What a process trains by its name and batch alone: all that is known beside a fitted line."""
    model = process.probe.models[0]
    batch, sequence = batch_and_sequence(model, detail_of(process, torch_device))
    part = probe_device_of(process, torch_device)
    return Workload(
        Model(model.class_name),
        batch=batch or 1,
        sequence=sequence or 1,
        precision="fp32",  # of what is not known the one that nothing is said of
        device=device_of(process, part, frame.fleet.snapshot.devices, []),
        backend="cuda" if torch_device.startswith("cuda") else "cpu",
    )


def _room(frame: Frame) -> tuple[Gpu, int, str]:
    """(GPU less what is used of it, bytes used there, a word about it) of the selected process's.

    One of the catalogue where there is none.
    """
    devices = [one for one in frame.fleet.snapshot.devices if one.backend == "nvml"]
    uuids = {use.uuid for use in frame.process.devices} if frame.process else set()
    device = next((one for one in devices if one.uuid in uuids), None)
    if device is None:
        device = next(iter(devices), None)
    total = device.memory.total_bytes if device else None
    if device is None or not total:
        return (
            find_gpu(_GPU),
            0,
            f" on an RTX {_GPU}, as there is no GPU here" if not devices else "",
        )
    used = min(device.memory.used_bytes or 0, total - 1)
    return Gpu(device.name, total - used, _capability(device)), used, f" on GPU {device.index}"


def _capability(device: Device) -> tuple[int, int]:
    """As the catalogue knows it; else that of what most trainings run on today."""
    try:
        return find_gpu(device.name).compute_capability
    except UsageError:
        return Gpu("", 0).compute_capability


def others_bytes(frame: Frame, process: Process, torch_device: str, workload: Workload) -> int:
    """What was taken off the device for other processes."""
    parts = (part for part in process.probe.devices if part.device == torch_device)
    uuid = next((part.uuid for part in parts), None)
    for device in frame.fleet.snapshot.devices:
        is_it = device.uuid == uuid or (torch_device == "cpu" and device.backend == "host")
        if is_it and device.memory.total_bytes and workload.device is not None:
            return max(device.memory.total_bytes - workload.device.total_bytes, 0)
    return 0
