"""A snapshot as one JSON object, schema ``vramtop.snapshot/1``; unknown is null."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..core.alerts import Alert
from ..core.devices import device_memory
from ..core.fleet import Fleet, ProcessKey, reduce
from ..core.forecast import Forecast
from ..core.model import (
    AllocatorStats,
    Device,
    DeviceMemory,
    Host,
    MigDevice,
    ModelInfo,
    OptimizerInfo,
    ProbeDevice,
    Process,
    Snapshot,
)
from ..core.outlook import forecast_of, foresee
from ..predict.as_values import prediction_object
from .json_detail import breakdown_object, detail_object, segments_object, stage_object
from .json_failure import failure_object
from .json_time import time_text

if TYPE_CHECKING:
    from ..predict.predictions import Prediction

SCHEMA = "vramtop.snapshot/1"


def render(
    snapshot: Snapshot,
    alerts: Sequence[Alert] = (),
    *,
    predictions: Mapping[ProcessKey, Prediction] | None = None,
    indent: int | None = 2,
) -> str:
    """The snapshot, with what is to be warned of in it, as JSON text."""
    shown = to_object(snapshot, alerts, predictions=predictions)
    text = json.dumps(shown, indent=indent, ensure_ascii=False)
    if text.replace("\n", "").isprintable():
        return text
    # What JSON lets pass and a terminal would obey, as the codes from 0x80 to 0x9f.
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def to_object(
    snapshot: Snapshot,
    alerts: Sequence[Alert] = (),
    *,
    predictions: Mapping[ProcessKey, Prediction] | None = None,
) -> dict[str, Any]:
    """The snapshot as plain values; times are ISO 8601 in UTC."""
    fleet = foresee(reduce(Fleet(), snapshot))
    made = predictions or {}
    return {
        "schema": SCHEMA,
        "taken_at": time_text(snapshot.taken_at),
        "host": _host(snapshot.host),
        "devices": [_device(device) for device in snapshot.devices],
        "processes": [
            {
                **_process(process, snapshot.devices),
                "prediction": prediction_object(made.get(process.key)),
                "forecast": _forecast(forecast_of(fleet, process)),
            }
            for process in snapshot.processes
        ],
        "alerts": [_alert(alert) for alert in alerts],
        "problems": [{"source": p.source, "message": p.message} for p in snapshot.problems],
    }


def _host(host: Host) -> dict[str, Any]:
    return {
        "hostname": host.hostname,
        "ram_total_bytes": host.ram_total_bytes,
        "ram_used_bytes": host.ram_used_bytes,
        "cpu_percent": host.cpu_percent,
        "driver_version": host.driver_version,
        "cuda_driver_version": host.cuda_driver_version,
    }


def _memory(memory: DeviceMemory) -> dict[str, int | None]:
    return {
        "total_bytes": memory.total_bytes,
        "used_bytes": memory.used_bytes,
        "driver_reserved_bytes": memory.driver_reserved_bytes,
        "free_bytes": memory.free_bytes,
        "unattributed_bytes": memory.unattributed_bytes,
    }


def _device(device: Device) -> dict[str, Any]:
    return {
        "index": device.index,
        "uuid": device.uuid,
        "name": device.name,
        "backend": device.backend,
        "memory": _memory(device.memory),
        "unified_memory": device.unified_memory,
        "utilization_percent": device.utilization_percent,
        "temperature_c": device.temperature_c,
        "power_w": device.power_w,
        "power_limit_w": device.power_limit_w,
        "sm_clock_mhz": device.sm_clock_mhz,
        "memory_clock_mhz": device.memory_clock_mhz,
        "stale_s": device.stale_s,
        "mig": [_mig(instance) for instance in device.mig],
    }


def _mig(instance: MigDevice) -> dict[str, Any]:
    return {
        "index": instance.index,
        "uuid": instance.uuid,
        "name": instance.name,
        "gpu_instance_id": instance.gpu_instance_id,
        "compute_instance_id": instance.compute_instance_id,
        "memory": _memory(instance.memory),
    }


def _process(process: Process, devices: tuple[Device, ...]) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "state": process.state,
        "started_at": time_text(process.started_at),
        "user": process.user,
        "command": process.command,
        "container": process.container,
        "devices": [
            {"uuid": use.uuid, "used_bytes": use.used_bytes, "kind": use.kind}
            for use in process.devices
        ],
        "host_rss_bytes": process.host_rss_bytes,
        "cpu_percent": process.cpu_percent,
        "probe": _probe(process, devices),
    }


def _forecast(forecast: Forecast | None) -> dict[str, Any] | None:
    return None if forecast is None else asdict(forecast)


def _alert(alert: Alert) -> dict[str, Any]:
    return {"kind": alert.kind, "text": alert.text, "pid": alert.pid, "device": alert.device}


def _probe(process: Process, devices: tuple[Device, ...]) -> dict[str, Any]:
    probe = process.probe
    models = [_model(model) for model in probe.models]
    return {
        "state": probe.state,
        "at": time_text(probe.at),
        "python": probe.python,
        "torch": probe.torch,
        "cuda": probe.cuda,
        "rank": probe.rank,
        "local_rank": probe.local_rank,
        "world_size": probe.world_size,
        "group": probe.group,
        "step": probe.step,
        "steps_per_s": probe.steps_per_s,
        "overhead_percent": probe.overhead_percent,
        "dropped_samples": probe.dropped_samples,
        "detail": probe.detail,
        "model": models[0] if models else None,
        "models": models,
        "optimizers": [_optimizer(optimizer) for optimizer in probe.optimizers],
        "devices": [
            _probe_device(part, device_memory(devices, part, process)) for part in probe.devices
        ],
        "problem": probe.problem,
        "failure": failure_object(probe.failure),
        "caught_ooms": probe.caught_ooms,
        "ended": probe.ended,
    }


def _model(model: ModelInfo) -> dict[str, Any]:
    return {
        "class": model.class_name,
        "parameters": model.parameters,
        "trainable_parameters": model.trainable_parameters,
        "parameters_by_dtype": model.parameters_by_dtype,
        "trainable_by_dtype": model.trainable_by_dtype,
        "tensors": model.tensors,
        "trainable_tensors": model.trainable_tensors,
        "arguments": list(model.arguments),
        "batch_shapes": [list(shape) for shape in model.batch_shapes],
        "training": model.training,
        "autocast": model.autocast,
        "attention": model.attention,
        "checkpointing": model.checkpointing,
        "lora": model.lora,
        "wrappers": list(model.wrappers),
        "quantized": model.quantized,
        "hf_config": model.hf_config,
    }


def _optimizer(optimizer: OptimizerInfo) -> dict[str, Any]:
    return {
        "class": optimizer.class_name,
        "module": optimizer.module or None,
        "steps": optimizer.steps,
        "defaults": optimizer.defaults,
        "parameters": optimizer.parameters,
        "state_by_dtype": optimizer.state_by_dtype,
    }


def _probe_device(device: ProbeDevice, memory: DeviceMemory | None) -> dict[str, Any]:
    detail, segments = device.detail, device.segments
    free_bytes = None if memory is None else memory.free_bytes
    return {
        "device": device.device,
        "uuid": device.uuid,
        "allocator": None if device.allocator is None else _allocator(device.allocator),
        "breakdown": None if device.breakdown is None else breakdown_object(device.breakdown),
        "boundary": device.boundary,
        **detail_object(detail, time_text(detail.at) if detail else None),
        "segments": segments_object(segments, time_text(segments.at), free_bytes)
        if segments
        else None,
        "stages": [stage_object(stage) for stage in device.stages],
    }


def _allocator(stats: AllocatorStats) -> dict[str, int | None]:
    return {
        "allocated_bytes": stats.allocated_bytes,
        "reserved_bytes": stats.reserved_bytes,
        "active_bytes": stats.active_bytes,
        "requested_bytes": stats.requested_bytes,
        "inactive_split_bytes": stats.inactive_split_bytes,
        "peak_allocated_bytes": stats.peak_allocated_bytes,
        "peak_reserved_bytes": stats.peak_reserved_bytes,
        "segments": stats.segments,
        "alloc_retries": stats.alloc_retries,
        "ooms": stats.ooms,
    }
