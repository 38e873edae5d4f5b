"""What each size and theme shows, and what is said where there is nothing to show."""

import dataclasses

import pytest

from vramtop.core.breakdowns import CATEGORY_LABELS
from vramtop.core.model import Host, Probe, Problem, Snapshot
from vramtop.sources.fake import snapshots


def only(snapshot, stepped):
    """A source that gives this one, and then what it is told to."""
    source = stepped(first=0)
    source.step = lambda _: source.give(snapshot)
    return source


@pytest.mark.parametrize("theme", ["vramtop-dark", "vramtop-light"])
@pytest.mark.parametrize("size", [(60, 20), (80, 24), (160, 50)])
@pytest.mark.parametrize("scenario", ["training", "fleet", "nogpu"])
async def test_every_size_and_theme_shows_all_panes_within_the_screen(shown, scenario, size, theme):
    async with shown(scenario, size=size, theme=theme) as screen:
        lines = screen.lines
        assert len(lines) == size[1]
        assert all(len(line) == size[0] for line in lines)
        for title in ("1 Devices", "2 Processes", "3 Breakdown"):
            assert title in screen.text
        assert "parameters" in screen.text
        assert len(screen.pids()) + ("×8" in screen.text) >= 2
        for number, title in enumerate(("Time", "Water", "Mods", "Segs", "Pred"), 4):
            shown_as = f" {number} {title if size[0] >= 76 else ''}"
            if size[0] < 110:
                assert shown_as in screen.line_with("3 Breakdown")
        assert "Quit" in lines[-1]


async def test_a_wide_screen_shows_every_view_of_a_training(shown):
    async with shown(size=(160, 50)) as screen:
        row = screen.line_with("▌   4101")
        for cell in ("ada", "10.4 GiB", "10.0 GiB", "cached, free", "3.20 step/s", "streaming"):
            assert cell in row
        assert "driver 570.86.10" in screen.text
        device = screen.line_with(" 0    Fake H100")
        assert "80.0 GiB" in device
        assert "97%" in device
        assert "└2:2" in screen.text  # an empty MIG slot before it does not hide it
        await screen.press("3", "3")
        assert "AdamW" in screen.text


async def test_before_the_first_snapshot_it_says_that_it_reads(shown, stepped):
    async with shown(source=stepped(first=0)) as screen:
        assert "reading devices…" in screen.text
        await screen.step(2)
        assert "reading devices…" not in screen.text
        assert "4101" in screen.text


async def test_the_head_and_the_table_count_the_same_processes(shown, stepped):
    snapshot = next(snapshots("training"))
    waiting, *others = snapshot.processes
    waiting = dataclasses.replace(waiting, probe=Probe(state="waiting"))
    kept = dataclasses.replace(snapshot, processes=(waiting, *others))
    left = dataclasses.replace(
        kept,
        taken_at=kept.taken_at + 3,
        processes=(waiting, *others[1:]),
    )
    async with shown(source=only(kept, stepped)) as screen:
        assert "4 processes, 2 with a probe" in screen.lines[0]
        assert "4, " not in screen.line_with("2 Processes")
        screen.source.give(left)
        await screen.pilot.pause()
        assert "3 processes, 2 with a probe" in screen.lines[0]
        assert "4, 1 ended" in screen.line_with("2 Processes")


async def test_details_of_an_ended_process_say_how_long_it_ran(shown, stepped):
    snapshot = next(snapshots("training"))
    left = dataclasses.replace(
        snapshot, taken_at=snapshot.taken_at + 30, processes=snapshot.processes[1:]
    )
    async with shown(source=only(snapshot, stepped), select_pid=4101) as screen:
        await screen.press("enter")
        ran = screen.line_with("running for").split("running for")[1].split()[0]
        screen.source.give(left)
        await screen.pilot.pause()
        assert screen.line_with("ran for").split("ran for")[1].split()[0] == ran
        assert "running for" not in screen.text
        assert "N/A" not in screen.line_with("step  "), "it has no speed any more"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("python /opt/bin/torchrun --nproc-per-node 2 train.py", "a launcher, which never trains"),
        ("python -m torch.distributed.run train.py", "attach to the processes that it has started"),
        ("python -u torchrun_train.py", "the probe is there and waits for the first training step"),
    ],
)
async def test_a_launcher_is_not_waited_for(shown, stepped, command, said):
    snapshot = next(snapshots("training"))
    first, *others = snapshot.processes
    first = dataclasses.replace(first, command=command, probe=Probe(state="waiting"))
    snapshot = dataclasses.replace(snapshot, processes=(first, *others))
    async with shown(source=only(snapshot, stepped), select_pid=4101) as screen:
        assert said in screen.words


async def test_the_host_alone_is_shown_with_the_reason(shown):
    async with shown("nogpu", size=(100, 30)) as screen:
        assert "no NVIDIA driver library on this machine; showing the host" in screen.text
        assert "rest of RSS" in screen.text
        assert "host RAM" in screen.text
        # No allocator on the CPU: nothing is reserved, and that is not zero.
        assert screen.line_with("cached, free").split()[3] == "–"
        assert "N/A" not in screen.line_with("4201")


async def test_a_process_without_a_probe_is_told_how_to_get_one(shown):
    async with shown(select_pid=4102) as screen:
        assert screen.selected() == 4102
        assert "vramtop run -- …" in screen.words
        assert "press a to put one in" in screen.words


async def test_a_process_without_a_probe_still_has_its_devices_line(shown):
    async with shown(select_pid=4102) as screen:
        await screen.step(20)
        assert "used by all processes on GPU 0, of 80.0 GiB" in screen.text
        assert any(0x2800 < ord(char) < 0x2900 for char in screen.text)


async def test_an_unknown_command_is_not_shortened(shown):
    async with shown() as screen:
        assert screen.line_with("990001").rstrip().endswith(" N/A")


async def test_a_lost_device_and_a_problem_are_said_with_the_age(shown):
    async with shown() as screen:
        assert "lost" not in screen.text
        await screen.step(10)
        assert "GPU 3: GPU is lost; reset it or reboot" in screen.text
        assert "lost, values 6s old" in screen.line_with("Fake H100 PCIe")


async def test_the_newest_problem_comes_first_and_the_rest_are_counted(shown, stepped):
    source = stepped(first=0)
    async with shown(source=source) as screen:
        first = next(snapshots("nogpu"))
        source.give(first)
        await screen.pilot.pause()
        more = Problem("GPU 1", "timed out")
        source.give(dataclasses.replace(first, problems=(*first.problems, more)))
        await screen.pilot.pause()
        line = screen.line_with("! ")
        assert "GPU 1: timed out" in line
        assert "+1 more" in line
        await screen.press("p")
        assert "timed out" in screen.text
        assert "no NVIDIA driver library" in screen.text


async def test_no_process_at_all(shown, stepped):
    source = stepped(first=0)
    async with shown(source=source) as screen:
        source.give(Snapshot(1.0, Host("h", None, None), (), ()))
        await screen.pilot.pause()
        assert "no device to show" in screen.text
        assert "no process uses a device" in screen.text
        assert "no process selected" in screen.text
        await screen.press("down", "enter", "T", "right", "G")  # nothing to act on


async def test_a_terminal_that_is_too_small_says_so_and_still_lists_processes(shown):
    async with shown(size=(50, 12)) as screen:
        assert "50×12 is small" in screen.lines[0]
        assert 4101 in screen.pids()


async def test_commands_cannot_write_to_the_terminal(shown, stepped):
    source = stepped(first=0)
    async with shown(source=source) as screen:
        snapshot = next(snapshots("training"))
        evil = dataclasses.replace(
            snapshot.processes[0], command="python \x1b[31m\x07\nbad\u202e 漢字", user="a\tb"
        )
        source.give(dataclasses.replace(snapshot, processes=(evil,)))
        await screen.pilot.pause()
        assert "python" in screen.text
        assert not any(ord(char) < 32 for line in screen.lines for char in line)
        assert "\u202e" not in screen.text
        await screen.press("enter")
        assert not any(ord(char) < 32 for line in screen.lines for char in line)


async def test_without_colours_glyphs_tell_the_categories_apart(shown, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    async with shown() as screen:
        await screen.step()
        await screen.press("3", "3")
        table = screen.pane("breakdown")
        marks = {
            next(line for line in table if label in line).strip()[0]
            for label in (*CATEGORY_LABELS.values(),)
        }
        assert len(marks) == len(CATEGORY_LABELS) == 11


async def test_the_same_category_has_the_same_colour_in_every_pane(shown):
    async with shown() as screen:
        colours = {}
        for strip in screen.app.screen._compositor.render_strips():
            before = None
            for segment in strip:
                for label in ("parameters", "optimizer state", "cached, free"):
                    if segment.text.strip() == label and before is not None:
                        colours.setdefault(label, set()).add(before)
                if segment.text.strip() == "■":
                    before = segment.style.color.name
        assert len(colours) == 3
        assert all(len(found) == 1 for found in colours.values()), colours


async def test_a_source_that_ends_with_the_app_is_stopped(shown):
    async with shown() as screen:
        source = screen.source
    assert source.stopped
