"""The JSON's names are a promise; oracle: the shape as the issue gives it, written out by hand."""

import json
import re

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
        assert set(probe["model"]) >= {"class", "parameters", "trainable_parameters"}
        for device in probe["devices"]:
            assert set(device["allocator"]) >= ALLOCATOR
            assert set(device["breakdown"]) >= BREAKDOWN


def test_unknown_is_null_and_everything_else_a_number():
    shown = json.loads(report.render(next(snapshots("nogpu"))))
    memory = shown["devices"][0]["memory"]
    assert memory["driver_reserved_bytes"] is None
    assert isinstance(memory["used_bytes"], int)
