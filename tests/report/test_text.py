from dataclasses import replace

from vramtop.report import text
from vramtop.sources.fake import snapshots


def test_every_device_process_and_problem_has_its_line():
    snapshot = next(snapshots("training"))
    shown = text.render(snapshot, width=300)
    for device in snapshot.devices:
        assert device.name in shown
        for mig in device.mig:
            assert mig.name in shown
    for process in snapshot.processes:
        assert f"{process.pid}" in shown
    for problem in snapshot.problems:
        assert problem.message in shown


def test_lines_keep_to_the_width():
    shown = text.render(next(snapshots("fleet")), width=80)
    assert max(map(len, shown.splitlines())) <= 80


def test_unknown_is_said_not_zero():
    row = next(
        line
        for line in text.render(next(snapshots("nogpu")), width=200).splitlines()
        if line.startswith("host ")
    )
    assert "N/A" in row


def test_a_process_with_detail_has_its_waterfall_and_peak_at_80_columns():
    lines = text.render(next(snapshots("training")), width=80).splitlines()
    start = next(i for i, line in enumerate(lines) if "before the step" in line)
    assert lines[start - 14].split() == ["BYTES", "SHARE", "AT", "PEAK"]
    assert lines[start : start + 5] == [
        "3.00 GiB before the step → forward ×4 6.43 GiB → backward ×4 4.00 GiB",
        "  → optimizer step 4.00 GiB → zero_grad 3.00 GiB",
        "peak 7.75 GiB in backward of transformer.h.11.mlp",
        "note: inside a compiled region modules cannot be told apart",
        "a 1 GiB request would need new memory although 5.13 GiB are cached",
    ]
    buffers = next(line for line in lines if "buffers" in line)
    assert buffers.startswith("  buffers ")


def test_a_probe_that_has_yet_to_sample_a_step_says_so():
    snapshot = next(snapshots("nogpu"))
    process = snapshot.processes[0]
    (device,) = process.probe.devices
    bare = replace(device, detail=None)
    process = replace(process, probe=replace(process.probe, devices=(bare,), detail="pending"))
    shown = text.render(replace(snapshot, processes=(process,)), width=80)
    assert "phases and peak: after the next step that is sampled in detail" in shown
    assert "AT PEAK" not in shown
