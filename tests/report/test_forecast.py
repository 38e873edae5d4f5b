"""Forecasts and alerts in text and JSON; oracle: the leak that was put into the snapshot."""

import json

import pytest

from tests.core.leaking_fake import LEAK_BYTES_PER_S, leaking_snapshot
from vramtop.core.alerts import Alert
from vramtop.report import json as json_report
from vramtop.report import text as text_report
from vramtop.sources.fake import snapshots

FORECAST = {
    "kind",
    "bytes_per_s",
    "bytes_per_step",
    "limit_bytes",
    "oom_in_s",
    "oom_in_steps",
    "confidence",
    "text",
}
ALERTS = (
    Alert("forecast 4201", "forecast", "OOM in ~59 min (pid 4201)", 4201, None),
    Alert("threshold host", "threshold", "host RAM is 93% full (of 64.0 GiB)", None, "host"),
)


def test_a_leak_is_in_the_json_of_its_process_and_null_in_others():
    snapshot = leaking_snapshot()
    shown = json.loads(json_report.render(snapshot, ALERTS))
    by_pid = {process["pid"]: process["forecast"] for process in shown["processes"]}
    found = by_pid.pop(4201)
    assert found.keys() == FORECAST
    assert found["kind"] == "leak"
    assert found["bytes_per_s"] == pytest.approx(LEAK_BYTES_PER_S, rel=0.01)
    assert found["bytes_per_step"] == pytest.approx(LEAK_BYTES_PER_S / 3, rel=0.01)
    free = snapshot.host.ram_total_bytes - snapshot.host.ram_used_bytes
    assert found["oom_in_s"] == pytest.approx(free / LEAK_BYTES_PER_S, rel=0.01)
    assert set(by_pid.values()) == {None}


def test_alerts_are_a_list_at_the_top():
    shown = json.loads(json_report.render(leaking_snapshot(), ALERTS))
    assert shown["alerts"] == [
        {
            "kind": "forecast",
            "text": "OOM in ~59 min (pid 4201)",
            "pid": 4201,
            "device": None,
        },
        {
            "kind": "threshold",
            "text": "host RAM is 93% full (of 64.0 GiB)",
            "pid": None,
            "device": "host",
        },
    ]
    healthy = json.loads(json_report.render(next(snapshots("nogpu"))))
    assert healthy["alerts"] == []
    assert {process["forecast"] for process in healthy["processes"]} == {None}


def test_the_text_says_when_why_and_what_to_do():
    lines = text_report.render(leaking_snapshot(), 120, ALERTS).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("forecast: "))
    assert lines[start].startswith("forecast: OOM in ~59 min / 11,000 steps at this growth (5.00 M")
    assert "a leak" in lines[start + 1]
    assert [line for line in lines if line.startswith("▲")] == [
        "▲ OOM in ~59 min (pid 4201)",
        "▲ host RAM is 93% full (of 64.0 GiB)",
    ]


def test_of_a_healthy_training_the_text_has_no_word_of_it():
    said = text_report.render(next(snapshots("nogpu")), 120)
    assert "forecast" not in said
    assert "▲" not in said
