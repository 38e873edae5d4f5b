"""The ranks of one job as one row of the processes table, and as rows under it."""

from dataclasses import replace
from itertools import islice

import pytest

from vramtop.core.failure import Failure
from vramtop.core.model import Probe
from vramtop.sources.fake import snapshots

RANKS = {5000, 5010, 5020, 5030, 5040, 5050, 5060, 5070}


@pytest.mark.parametrize("theme", ["vramtop-dark", "vramtop-light"])
@pytest.mark.parametrize("size", [(60, 20), (80, 24), (160, 50)])
async def test_a_job_is_one_row_and_the_panes_show_its_fullest_rank(shown, size, theme):
    async with shown("fleet", size=size, theme=theme) as screen:
        row = screen.line_with("▸")
        assert row.startswith("▌▸    ×8 ")
        assert "333 GiB" in row
        assert "r3 50.4 GiB +21%" in row
        assert "fullest r3 5030 cuda:0" in screen.line_with("3 Breakdown")
        assert "f lists the 8 ranks" in screen.line_with("2 Processes")
        assert not RANKS & set(screen.pids())


async def test_which_process_has_no_probe_is_said_before_the_rank_which_stands_elsewhere_too(shown):
    async with shown("fleet", size=(120, 40)) as screen:
        assert "no probe" in screen.line_with(" 5001 ")
        assert " RANK " not in screen.line_with("PID")
        await screen.press("f")
        assert "  r3 python -u pretrain.py" in screen.line_with(" 5030 ")
    async with shown("fleet", size=(160, 50)) as screen:
        assert "r3/8" not in screen.text
        await screen.press("f")
        row = screen.line_with(" 5030 ")
        assert "r3/8" in row
        assert "streaming" in row


async def test_a_key_lists_the_ranks_and_folds_them_again(shown):
    async with shown("fleet") as screen:
        folded = screen.pids()
        await screen.press("f")
        assert screen.line_with("▾").startswith(" ▾    ×8 ")
        assert screen.pids()[:8] == [5030, *sorted(RANKS - {5030})]
        assert screen.selected() == 5030, "what the panes showed they go on showing"
        assert "  r3 python -u pretrain.py" in screen.line_with(" 5030 ")
        await screen.press("f")
        assert screen.pids() == folded


async def test_a_rank_that_was_asked_for_is_shown_and_not_a_fuller_one(shown):
    async with shown("fleet", select_pid=5010) as screen:
        assert screen.selected() == 5010
        assert " 5010 cuda:0" in screen.line_with("3 Breakdown")


async def test_so_it_is_where_its_probe_says_later_that_it_is_a_rank(shown, stepped):
    def waiting(snapshot):
        processes = [
            replace(p, probe=Probe(state="waiting")) if p.pid == 5010 else p
            for p in snapshot.processes
        ]
        return replace(snapshot, processes=tuple(processes))

    first, second, third = islice(snapshots("fleet"), 3)
    for keys, shown_then in ((), " 5010 cuda:0"), (("up",), " fullest r3 5030 cuda:0"):
        source = stepped("fleet", first=0)
        async with shown(source=source, select_pid=5010) as screen:
            source.give(waiting(first))
            await screen.pilot.pause()
            assert screen.selected() == 5010
            await screen.press(*keys)
            source.give(second)
            await screen.pilot.pause()
            assert shown_then in screen.line_with("3 Breakdown")
            await screen.press("g")
            source.give(third)
            await screen.pilot.pause()
            assert " 5010 " not in screen.line_with("3 Breakdown"), "it is asked for once"


async def test_a_click_on_the_mark_turns_the_fold_and_one_beside_it_selects(shown):
    async with shown("fleet") as screen:
        await screen.click(30, screen.row_of(" 5002 "))
        await screen.click(30, screen.row_of("▸"))
        assert "fullest r3" in screen.text
        assert "▾" not in "".join(screen.pane("processes"))
        await screen.click(2, screen.row_of("▸"))
        assert RANKS <= set(screen.pids())
        await screen.click(30, screen.row_of("▾"))
        assert not RANKS & set(screen.pids())


async def test_the_cursor_passes_over_the_heading(shown):
    async with shown("fleet") as screen:
        await screen.press("s", "p", "s", "p", "f")  # by pid, the smallest first
        await screen.press("g")
        assert screen.selected() == 5000
        await screen.press("up")
        assert screen.selected() == 5000
    async with shown("fleet") as screen:
        await screen.press("f", "s", "m", "G", "up")  # the smallest first: the job is the last
        assert screen.selected() in RANKS
        while screen.selected() in RANKS:
            before = screen.selected()
            await screen.press("up")
        assert screen.selected() == 5077
        await screen.press("down")
        assert screen.selected() == before


async def test_a_signal_is_for_one_process(shown):
    async with shown("fleet") as screen:
        await screen.press("T")
        assert "this row is 8 processes: press f and choose one of them" in screen.text
        await screen.press("f", "T")
        assert "5030" in screen.line_with("pid")
        await screen.press("escape")
        assert "SIGTERM not sent" in screen.text


async def test_a_probe_is_for_one_process_too(shown):
    _, second = islice(snapshots("fleet"), 2)
    processes = tuple(
        replace(p, probe=replace(p.probe, state="gone", ended="detached")) if p.pid == 5000 else p
        for p in second.processes
    )
    async with shown("fleet") as screen:
        await screen.press("a")
        assert "every rank of this row has its probe already" in screen.text
        screen.source.give(replace(second, processes=processes))
        await screen.pilot.pause()
        assert "(r0 detached) python -u" in screen.line_with("▸")
        assert "333 GiB" in screen.line_with("▸")
        await screen.press("a")
        assert "this row is 8 processes: press f and choose one of them" in screen.text
        await screen.press("f", "down", "a")
        assert "Put vramtop's probe into this process?" in screen.text


async def test_there_may_be_no_job(shown):
    async with shown("training") as screen:
        await screen.press("f")
        assert "is no rank" in screen.text


async def test_a_rank_that_dies_shows_at_every_size(shown):
    _, second = islice(snapshots("fleet"), 2)
    processes = tuple(
        replace(p, state="gone", probe=replace(p.probe, state="gone")) if p.pid == 5050 else p
        for p in second.processes
    )
    for size in ((60, 20), (80, 24), (160, 50)):
        async with shown("fleet", size=size) as screen:
            screen.source.give(replace(second, processes=processes))
            await screen.pilot.pause()
            assert "r5 gone" in screen.line_with("▸"), size


async def test_another_fullest_rank_shows_although_the_sum_is_the_same(shown):
    """On 60 columns it stands before the command, and not in a column of its own."""
    _, second = islice(snapshots("fleet"), 2)
    by_pid = {process.pid: process for process in second.processes}
    used = {5000: by_pid[5030].used_bytes, 5030: by_pid[5000].used_bytes}
    swapped = tuple(
        replace(p, devices=(replace(p.devices[0], used_bytes=used[p.pid]),)) if p.pid in used else p
        for p in second.processes
    )
    async with shown("fleet", size=(60, 20)) as screen:
        assert "r3 50.4 GiB" in screen.line_with("▸")
        screen.source.give(replace(second, processes=swapped))
        await screen.pilot.pause()
        assert "r0 50.4 GiB" in screen.line_with("▸")


async def test_a_filter_that_matches_one_rank_lists_it(shown):
    async with shown("fleet") as screen:
        await screen.press("slash", *"5040", "enter")
        assert set(screen.pids()) == {5040}  # the field shows the word, too
        assert "×8" in screen.line_with("▾")
        assert "f folds" not in screen.text
        for turn in (screen.press("f"), screen.click(2, screen.row_of("▾"))):
            await turn
            assert "the filter says which ranks are listed; esc ends it" in screen.text
        await screen.press("escape")
        assert "×8" in screen.line_with("▸"), "no fold was turned where none could be seen"


async def test_why_a_job_died_is_told_of_the_rank_that_failed_first(shown):
    _, second = islice(snapshots("fleet"), 2)
    at = second.taken_at
    failures = {
        5000: Failure("oom", at - 1, caught=True, message="tried again"),
        5030: Failure("lost", at - 4, message="SIGABRT ended it"),
        5050: Failure("oom", at - 3, caught=False, message="the first"),
        5060: Failure("oom", at - 2, caught=False, message="the second"),
    }
    processes = tuple(
        replace(p, state="gone", probe=replace(p.probe, state="gone", failure=failures.get(p.pid)))
        for p in second.processes
    )
    async with shown("fleet") as screen:
        screen.source.give(replace(second, processes=processes))
        await screen.pilot.pause()
        await screen.press("g")
        assert "fullest r3" in screen.text
        assert "+2 more: p" in screen.lines[0]
        await screen.press("w")
        assert "pid 5050" in screen.line_with("python -u pretrain.py")
        await screen.press("escape")
        assert "▲" not in screen.lines[0]  # one story for the whole job


async def test_ranks_about_as_full_do_not_take_turns(shown):
    """Rank 0 and rank 3 are the fullest by turns, by less than one can see."""
    async with shown("fleet", size=(80, 24)) as screen:
        seen = set()
        for tick, snapshot in enumerate(islice(snapshots("fleet"), 2, 12)):
            more = {5030: 0, 5000: (10 << 30) + (-1) ** tick * (100 << 20)}
            screen.source.give(
                replace(
                    snapshot,
                    processes=tuple(
                        replace(
                            p,
                            devices=tuple(
                                replace(use, used_bytes=use.used_bytes + more[p.pid])
                                for use in p.devices
                            ),
                        )
                        if p.pid in more
                        else p
                        for p in snapshot.processes
                    ),
                )
            )
            await screen.pilot.pause()
            seen.add(screen.line_with("fullest").partition("fullest ")[2][:2])
        assert seen == {"r3"}
