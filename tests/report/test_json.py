"""The JSON's names are a promise; oracle: the shape as the issue gives it, written out by hand."""

import json
import re
from dataclasses import replace

from vramtop.report import json as report
from vramtop.sources.fake import snapshots

MEMORY = {
    "total_bytes",
    "used_bytes",
    "driver_reserved_bytes",
    "free_bytes",
    "unattributed_bytes",
}
DEVICE = {
    "index",
    "uuid",
    "name",
    "backend",
    "memory",
    "utilization_percent",
    "temperature_c",
    "power_w",
    "mig",
}
PROCESS = {"pid", "started_at", "user", "command", "devices", "host_rss_bytes", "probe"}
PROBE = {
    "state",
    "torch",
    "rank",
    "step",
    "steps_per_s",
    "overhead_percent",
    "model",
    "devices",
}
MODEL = {
    "class",
    "parameters",
    "trainable_parameters",
    "parameters_by_dtype",
    "trainable_by_dtype",
    "tensors",
    "trainable_tensors",
    "arguments",
    "batch_shapes",
    "training",
    "autocast",
    "attention",
    "checkpointing",
    "lora",
    "wrappers",
    "quantized",
    "hf_config",
}
OPTIMIZER = {"class", "module", "steps", "defaults", "parameters", "state_by_dtype"}
ALLOCATOR = {"allocated_bytes", "reserved_bytes", "peak_allocated_bytes", "peak_reserved_bytes"}
BREAKDOWN = {
    "parameter_bytes",
    "gradient_bytes",
    "optimizer_state_bytes",
    "activation_bytes",
    "input_bytes",
    "temporary_bytes",
    "autograd_detail_bytes",
    "unknown_bytes",
    "cached_bytes",
    "fragmentation_bytes",
    "buffer_bytes",
    "autocast_cache_bytes",
    "kv_cache_bytes",
    "recomputed_bytes",
    "process_bytes",
    "outside_allocator_bytes",
}


def test_the_promised_names_are_there():
    shown = json.loads(report.render(next(snapshots("training"))))
    assert shown["schema"] == "vramtop.snapshot/1"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", shown["taken_at"])
    assert set(shown) >= {"host", "devices", "processes", "problems"}
    for device in shown["devices"]:
        assert set(device) >= DEVICE
        assert set(device["memory"]) == MEMORY
    for process in shown["processes"]:
        assert set(process) >= PROCESS
        assert set(process["probe"]) >= PROBE
        for use in process["devices"]:
            assert set(use) == {"uuid", "used_bytes", "kind"}
    streaming = [p["probe"] for p in shown["processes"] if p["probe"]["state"] == "streaming"]
    assert streaming
    for probe in streaming:
        assert set(probe["model"]) >= MODEL
        for optimizer in probe["optimizers"]:
            assert set(optimizer) >= OPTIMIZER
        for device in probe["devices"]:
            assert set(device["allocator"]) >= ALLOCATOR
            assert set(device["breakdown"]) >= BREAKDOWN
            assert device["boundary"] in {"forward", "zero_grad"}


def test_unknown_is_null_and_everything_else_a_number():
    shown = json.loads(report.render(next(snapshots("nogpu"))))
    memory = shown["devices"][0]["memory"]
    assert memory["driver_reserved_bytes"] is None
    assert isinstance(memory["used_bytes"], int)


def probe_devices(scenario):
    shown = json.loads(report.render(next(snapshots(scenario))))
    return [device for process in shown["processes"] for device in process["probe"]["devices"]]


TENSORS = (
    "parameter",
    "gradient",
    "optimizer_state",
    "activation",
    "input",
    "temporary",
    "autograd_detail",
    "unknown",
)


def tensor_bytes(breakdown):
    return sum(breakdown[f"{name}_bytes"] for name in TENSORS)


def test_phases_peak_and_modules_stand_beside_the_breakdown():
    for device in [*probe_devices("training"), *probe_devices("nogpu")]:
        assert set(device["detail"]) == {"at", "step", "batch_shapes", "notes"}
        assert [phase["name"] for phase in device["phases"]] == [
            "forward",
            "backward",
            "step",
            "zero_grad",
        ]
        for phase in device["phases"]:
            assert set(phase) == {
                "name",
                "before_bytes",
                "after_bytes",
                "peak_bytes",
                "count",
                "after",
            }
            assert set(phase["after"]) == BREAKDOWN
            assert tensor_bytes(phase["after"]) == phase["after_bytes"]
        peak = device["peak"]
        assert set(peak) == {"phase", "module", "total_bytes", "breakdown"}
        assert set(peak["breakdown"]) == BREAKDOWN
        assert tensor_bytes(peak["breakdown"]) == peak["total_bytes"]
        for module in device["modules"]:
            assert set(module) == {"path", "class", "activation_bytes", "parameter_bytes"}
        for stage in device["stages"]:
            assert set(stage) == {
                "path",
                "calls",
                "before_bytes",
                "after_bytes",
                "peak_bytes",
                "seconds",
            }


def test_a_breakdown_sums_to_the_process():
    for device in [*probe_devices("training"), *probe_devices("nogpu")]:
        breakdown = device["breakdown"]
        known = (*TENSORS, "cached", "fragmentation", "outside_allocator")
        total = sum(breakdown[f"{name}_bytes"] or 0 for name in known)
        assert total == breakdown["process_bytes"]
        if device["allocator"]:
            assert tensor_bytes(breakdown) == device["allocator"]["allocated_bytes"]


def test_the_segments_in_figures():
    (device,) = probe_devices("training")
    segments = device["segments"]
    assert segments["segments"] == device["allocator"]["segments"]
    assert segments["total_bytes"] == device["allocator"]["reserved_bytes"]
    parts = ("allocated_bytes", "pending_bytes", "free_bytes", "omitted_bytes")
    assert sum(segments[part] for part in parts) == segments["total_bytes"]
    assert segments["message"].startswith("a 1 GiB request would need new memory although ")
    assert probe_devices("nogpu")[0]["segments"] is None


def test_before_the_first_detail_its_keys_are_there_and_empty():
    snapshot = next(snapshots("training"))
    (process,) = [p for p in snapshot.processes if p.probe.devices]
    (device,) = process.probe.devices
    bare = replace(device, detail=None, segments=None, stages=())
    process = replace(process, probe=replace(process.probe, devices=(bare,), detail="pending"))
    shown = report.to_object(replace(snapshot, processes=(process,)))
    probe = shown["processes"][0]["probe"]
    assert probe["detail"] == "pending"
    found = {name: probe["devices"][0][name] for name in ("detail", "phases", "peak", "modules")}
    assert found == {"detail": None, "phases": [], "peak": None, "modules": []}
    assert probe["devices"][0]["segments"] is None
    assert probe["devices"][0]["stages"] == []
