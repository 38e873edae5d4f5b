"""The explorer as text: its parts, its widths, without colour, in ASCII, and as JSON."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from vramtop.estimator import closed
from vramtop.estimator.catalog import find_gpu, find_model
from vramtop.estimator.judge import judge
from vramtop.estimator.workload import Workload
from vramtop.report.ansi import Look
from vramtop.report.explore_text import render, to_object

GPT2 = Workload(find_model("gpt2"), batch=8, sequence=512, device=find_gpu("4090"))


def answered(workload=GPT2):
    predictor = closed.predictor(workload)
    return judge(predictor, workload), predictor


def shown(workload=GPT2, **look):
    return render(*answered(workload), Look(**{"width": 100, **look}))


def test_the_maximum_the_curve_the_cliff_and_the_map():
    text = shown()
    assert "▀▀█ █▀▀   max micro-batch at 512 tokens on RTX 4090" in text
    assert "surely 31 · formula ±15 %" in text
    assert "effective batch 32 = 16 × 2 accumulation · 64 = 16 × 4 accumulation" in text
    assert "23.6 GiB┤━━" in text
    assert " OOM " in text
    assert "◆ 8 asked" in text
    assert "36 max" in text
    assert "× CUDA out of memory: batch 37 needs 23.7 GiB, 77.0 MiB more than there is" in text
    assert "512  ✓  7%  ✓ 10%  ✓ 15% ◆✓ 25%  ✓ 46%" in text
    assert "FITS: NVIDIA GeForce RTX 4090" in text


def test_the_hatching_begins_at_the_first_batch_that_does_not_run():
    rows = [line for line in shown().splitlines() if re.match(r".{9}[│┤]", line)]
    edges = {line.index("┃") for line in rows}
    assert len(edges) == 1
    (edge,) = edges
    last = 47
    # 90 columns for batches 1 to 47: batch 37 begins at column 36 · 90 / 47, rounded up.
    assert edge - 10 == -(-36 * 90 // last)
    assert all(set(line[edge + 1 :]) <= set("╱╳━ OM") for line in rows)


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_no_line_is_longer_than_the_terminal(width, ascii_only):
    for line in shown(width=width, ascii=ascii_only).splitlines():
        assert len(line) <= width


def test_ascii_has_the_same_in_other_glyphs():
    text = shown(ascii=True)
    plot = text[text.index("process memory over") :]
    odd = set(plot) - set(map(chr, range(32, 127))) - {"\n"}
    assert odd <= {"×", "–"}  # words, not pictures
    assert "=" * 20 in plot
    assert "/" in plot
    assert "OOM" in plot
    assert "*+ 25%" in plot


def test_colours_are_escape_codes_and_change_no_letter():
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown(colours="true"))
    assert "36 max" in plain
    assert "█" in plain
    assert shown().count("\n") == plain.count("\n")


def test_without_a_device_there_is_no_cliff_and_no_map():
    text = shown(dataclasses.replace(GPT2, device=None))
    assert "choose a GPU" in text
    assert "OOM" not in text
    assert "share of what can be used" not in text


def test_json_has_layers_fall_accumulations_and_map():
    estimate, predictor = answered()
    told = json.loads(json.dumps(to_object(estimate, predictor)))
    assert told["schema"] == "vramtop.estimate/1"
    for point, (batch, size) in zip(told["sweep"], estimate.curve, strict=True):
        assert point["batch"] == batch
        assert point["runs"] == (batch <= estimate.max_micro_batch)
        assert sum(point["components"].values()) == point["process_bytes"] == size
    assert told["fall"]["batch"] == estimate.max_micro_batch + 1
    assert told["effective_batches"][1] == {
        "effective_batch": 64,
        "micro_batch": 16,
        "grad_accumulation": 4,
        "gpus": 1,
    }
    grid = told["map"]
    assert len(grid["rows"]) == len(grid["sequences"])
    row = grid["rows"][grid["sequences"].index(512)]
    assert row[grid["batches"].index(8)] == {
        "verdict": "fits",
        "process_bytes": estimate.footprint.process_bytes,
    }


def test_json_without_a_device_has_nulls():
    told = to_object(*answered(dataclasses.replace(GPT2, device=None)))
    assert told["map"] is None
    assert told["fall"] is None
    assert told["effective_batches"] == []
