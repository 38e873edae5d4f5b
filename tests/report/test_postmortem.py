"""A post-mortem as text and JSON, and what a snapshot's text and JSON say of a failure."""

import json

import pytest

from tests.report.failed_fake import FAILURE, PID, failed, post_mortem
from vramtop.core.failure import Failure
from vramtop.core.fleet import Fleet, reduce
from vramtop.core.postmortem import FittingBatch
from vramtop.core.postmortem_story import story
from vramtop.report import json as json_report
from vramtop.report import postmortem_json, postmortem_text
from vramtop.report import text as text_report
from vramtop.report.ansi import Look

TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "/home/ada/\x1b[31mtrain.py", line 61, in main\n'
    "    loss.backward()\n"
    "    ^^^^^^^^^^^^^^^\n"
    "torch.OutOfMemoryError: CUDA out of memory.\n"
)
BATCH = FittingBatch(7, 8, "trace")
PREDICTED = {"parameter": 1 << 30, "activation": 3 << 30, "total": 4 << 30}


def told(found, **more):
    fleet = reduce(Fleet(), found.snapshot)
    return story(fleet, fleet.snapshot.processes[0], traceback=found.traceback, **more)


@pytest.mark.parametrize("width", [60, 80, 160])
@pytest.mark.parametrize("is_ascii", [False, True])
def test_lines_keep_to_the_width_and_hold_nothing_that_a_terminal_obeys(width, is_ascii):
    found = post_mortem(traceback=TRACEBACK)
    shown = postmortem_text.render(
        found, told(found, batch=BATCH, predicted=PREDICTED), Look(width, ascii=is_ascii)
    )
    assert max(map(len, shown.splitlines())) <= width
    assert shown.replace("\n", "").isprintable()


def test_as_text():
    found = post_mortem(traceback=TRACEBACK)
    made = told(found, batch=BATCH, predicted=PREDICTED, predicted_text="4.00 GiB (traced)")
    lines = postmortem_text.render(found, made, Look(100)).splitlines()
    words = " ".join(" ".join(lines).split())
    assert "step 541, backward of transformer.h.11.mlp: asked 2.00 GiB, 1.00 GiB free" in words
    assert "would have fit with expandable_segments or batch 7" in words
    assert "batch 7 in place of 8 (traced)" in words
    head = next(line for line in lines if "LAST SEEN" in line)
    assert head.split() == ["LAST", "SEEN", "AT", "PEAK", "PREDICTED"]
    row = next(line for line in lines if line.startswith("█ parameters"))
    assert row.split()[2:] == ["1.00", "GiB", "1.00", "GiB", "1.00", "GiB"]
    assert any(line.endswith("OOM") for line in lines)  # the time axis
    assert "torch.OutOfMemoryError: CUDA out of memory." in lines
    assert not any("^^^" in line for line in lines)
    assert lines[-2:] == ["written by the training itself:", FAILURE.file]


def test_of_a_lost_one_a_viewer_wrote_and_nothing_would_have_fit():
    found = post_mortem(Failure("lost", 0.0, step=540, message="killed"), written_by="viewer")
    lines = postmortem_text.render(found, told(found), Look(100)).splitlines()
    assert "step 540: gone; killed" in lines
    assert "what to do" in lines
    assert any("137" in line for line in lines)
    assert not any("fit with" in line for line in lines)
    assert any(line.rstrip().endswith(" end") for line in lines)
    assert lines[-2:] == ["written by a vramtop that watched it:", "N/A"]


def test_as_json():
    found = post_mortem(traceback=TRACEBACK)
    made = told(found, batch=BATCH, predicted=PREDICTED)
    shown = json.loads(postmortem_json.render(found, made, BATCH))
    assert shown["schema"] == "vramtop.postmortem-report/1"
    assert shown["sentence"] == made.sentence
    assert shown["fitting_batch"] == {"batch": 7, "failed_batch": 8, "source": "trace"}
    assert [one["kind"] for one in shown["remedies"]][:2] == ["expandable", "batch"]
    assert shown["failure"]["requested_bytes"] == FAILURE.requested_bytes
    assert shown["failure"]["module_source"] == "exact"
    rows = {row["category"]: row for row in shown["memory"]}
    assert rows["parameter"]["predicted_bytes"] == 1 << 30
    assert shown["process"]["pid"] == PID
    assert shown["process"]["probe"]["failure"] == shown["failure"]
    assert shown["written_by"] == "probe"


def test_a_snapshot_tells_of_a_failure_in_text_and_json():
    snapshot = failed(caught_ooms=2)[-1]
    lines = text_report.render(snapshot, 80).splitlines()
    said = next(line for line in lines if line.startswith("4101: "))
    assert said.startswith("4101: step 541, backward of transformer.h.11.mlp: asked 2.00 GiB")
    assert "  all of it: vramtop postmortem /run/4101-1-0.postmortem.json" in lines
    assert max(map(len, lines)) <= 80
    assert "  2 OOMs caught and retried\n" in text_report.render(snapshot, 200)
    shown = json.loads(json_report.render(snapshot))
    probe = next(p for p in shown["processes"] if p["pid"] == PID)["probe"]
    assert probe["failure"]["phase"] == "backward"
    assert probe["failure"]["file"] == FAILURE.file
    assert (probe["caught_ooms"], probe["ended"]) == (2, None)
    others = [p["probe"]["failure"] for p in shown["processes"] if p["pid"] != PID]
    assert set(others) == {None}
