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
