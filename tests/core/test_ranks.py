from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vramtop.core.failure import Failure
from vramtop.core.fleet import Fleet, reduce
from vramtop.core.model import DeviceUse, Process
from vramtop.core.ranks import JobRow, table_rows
from vramtop.core.rows import PROCESS_COLUMNS, SORT_KEYS, process_rows

GIB = 1 << 30
JOB = "node1:29500"


@pytest.fixture
def rank(make: Any) -> Any:
    """A rank with so many GiB, on the GPU of its number."""

    def rank(number: int, gib: float, *, world: int = 4, group: str = JOB, **more: Any) -> Process:
        process = make.process(
            100 + number, at=99.5, breakdown=make.breakdown(GIB, int(gib * GIB)), **more
        )
        probe = replace(
            process.probe,
            rank=number,
            world_size=world,
            group=group,
            steps_per_s=4.0 - number / 10,
        )
        use = DeviceUse(f"GPU-{number}", int(gib * GIB), "C")
        return replace(process, probe=probe, devices=(use,))

    return rank


@pytest.fixture
def shown(make: Any) -> Any:
    """The rows of some processes, on as many GPUs as are needed."""

    def shown(*processes: Process, **asked: Any) -> list[Any]:
        devices = tuple(replace(make.gpu(), index=i, uuid=f"GPU-{i}") for i in range(8))
        fleet = reduce(Fleet(), make.snapshot(100.0, *processes, devices=devices))
        return table_rows(fleet, **asked)

    return shown


def test_four_ranks_are_one_row_that_names_the_fullest(rank: Any, shown: Any) -> None:
    rows = shown(*(rank(number, 12 if number == 2 else 8) for number in range(4)))
    (job,) = rows
    assert isinstance(job, JobRow)
    cells = {column.key: job.text(column.key) for column in PROCESS_COLUMNS}
    assert cells["pid"] == cells["rank"] == "×4"
    assert cells["memory"] == "36.0 GiB"
    assert cells["allocated"] == "4.00 GiB"
    assert cells["device"] == "0–3"
    assert cells["largest"] == "r2 12.0 GiB +33%"  # 12 over a mean of 9
    assert cells["rate"] == "3.70 step/s"  # the slowest: the others wait for it
    assert cells["probe"] == "streaming"
    assert cells["command"] == "python train.py"
    assert job.process.pid == 102
    assert job.keys == tuple((100 + number, 1.0) for number in range(4))


def test_ranks_within_a_percent_are_even(rank: Any, shown: Any) -> None:
    (job,) = shown(rank(0, 10), rank(1, 10.1))
    assert job.fullest_text == "r1 10.1 GiB even"


def test_of_ranks_on_other_machines_nothing_is_known_but_their_number(
    rank: Any, shown: Any
) -> None:
    (job,) = shown(*(rank(number, 8, world=8) for number in range(4)))
    assert job.count_text == "4 of 8"


def test_unfolded_the_ranks_stand_under_their_job(rank: Any, make: Any, shown: Any) -> None:
    other = make.plain(1, 20 * GIB)
    ranks = [rank(number, 8 + number) for number in range(3)]
    rows = shown(other, *ranks, unfolded={JOB})
    assert [row.pid for row in rows] == [100, 102, 101, 100, 1]  # 27 GiB, its ranks, 20 GiB
    heading, *listed, last = rows
    assert heading.is_unfolded
    assert not heading.keys, "the cursor stands on a rank"
    assert all(row.is_listed_rank for row in listed)
    assert not last.is_listed_rank


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": "gone"}, "r1 probe gone"),
        ({"state": "gone", "ended": "detached"}, "r1 detached"),
        ({"state": "gone", "ended": "exit"}, "r1 gone"),
        ({"state": "gone", "ended": "lost"}, "r1 gone"),
        ({"state": "stale"}, "r1 stale"),
        ({"state": "waiting"}, "r1 waiting"),
        ({"process": "gone"}, "r1 gone"),
    ],
)
def test_a_rank_in_trouble_shows_on_the_folded_row(
    rank: Any, shown: Any, changes: dict[str, Any], said: str
) -> None:
    ill = rank(1, 30)
    state = changes.pop("process", "running")
    ill = replace(ill, state=state, probe=replace(ill.probe, **changes))
    (job,) = shown(rank(0, 8), ill, rank(2, 8))
    assert not job.is_well
    assert job.text("probe") == said
    assert job.text("command") == f"({said}) python train.py"
    if said == "r1 gone":  # what it held is nobody's any more
        assert job.memory_bytes == 16 * GIB
        assert job.process.pid in {100, 102}
    else:
        assert job.memory_bytes == 46 * GIB
        assert job.process.pid == 101


def test_several_ranks_in_trouble_are_counted(rank: Any, shown: Any) -> None:
    ranks = [rank(number, 8) for number in range(4)]
    gone = [replace(r, state="gone", probe=replace(r.probe, state="gone")) for r in ranks]
    assert shown(ranks[0], *gone[1:])[0].text("probe") == "3 gone"
    everywhere = shown(*gone)[0]
    assert everywhere.text("probe") == "gone"
    assert everywhere.memory_bytes == 32 * GIB, "the last that was known"


def test_the_rank_that_ran_out_of_memory_is_named_among_those_that_died_of_it(
    rank: Any, shown: Any
) -> None:
    ranks = [replace(r, probe=replace(r.probe, state="gone")) for r in map(rank, range(4), [8] * 4)]
    failed = Failure("oom", at=99.0, caught=False)
    ranks[2] = replace(ranks[2], probe=replace(ranks[2].probe, failure=failed))
    (job,) = shown(*ranks)
    assert job.text("command") == "(r2 OOM) python train.py"
    caught = replace(failed, caught=True)  # it went on
    well = [replace(r, probe=replace(r.probe, state="streaming", failure=caught)) for r in ranks]
    assert shown(*well)[0].is_well


def test_a_rank_that_came_back_takes_the_place_of_the_one_that_ended(rank: Any, shown: Any) -> None:
    ended = rank(0, 50, started_at=0.5)
    ended = replace(ended, pid=7, state="gone", probe=replace(ended.probe, state="gone"))
    rows = shown(ended, rank(0, 8), rank(1, 8))
    assert [row.pid for row in rows] == [7, 100]
    assert rows[1].memory_bytes == 16 * GIB


def test_of_an_earlier_start_with_more_ranks_none_is_the_jobs(rank: Any, shown: Any) -> None:
    def ended(process: Process) -> Process:
        return replace(process, state="gone", probe=replace(process.probe, state="gone"))

    earlier = [ended(replace(rank(number, 9, world=4), pid=number + 1)) for number in range(4)]
    rows = shown(*earlier, rank(0, 8, world=2), rank(1, 8, world=2))
    assert [row.pid for row in rows] == [100, 1, 2, 3, 4]
    assert rows[0].count_text == "×2"
    assert rows[0].is_well
    assert [row.count_text for row in shown(*earlier)] == ["×4"]


def test_a_helper_that_inherited_the_number_is_no_rank(rank: Any, shown: Any) -> None:
    helper = rank(0, 1, started_at=50.0)
    helper = replace(helper, pid=7, probe=replace(helper.probe, state="waiting"))
    rows = shown(helper, rank(0, 8), rank(1, 8))
    assert [row.pid for row in rows] == [100, 7]
    assert rows[0].is_well


def test_two_jobs_are_two_rows_and_a_lone_rank_is_a_process(rank: Any, shown: Any) -> None:
    first = [rank(number, 8) for number in range(2)]
    second = [replace(rank(number, 4, group="b"), pid=200 + number) for number in range(2)]
    lone = replace(rank(0, 1, group="c"), pid=300)
    rows = shown(*first, *second, lone)
    assert [row.pid for row in rows] == [100, 200, 300]
    assert [isinstance(row, JobRow) for row in rows] == [True, True, False]


def test_of_ranks_about_as_full_the_one_looked_at_stays(rank: Any, shown: Any) -> None:
    def fullest(gib: float) -> int:
        (job,) = shown(rank(0, gib), rank(1, 10), preferred=(100, 1.0))
        return int(job.process.pid)

    assert fullest(9.9) == 100
    assert fullest(9.0) == 101


def test_a_filter_keeps_a_job_whole_and_lists_the_ranks_that_match(
    rank: Any, make: Any, shown: Any
) -> None:
    processes = [rank(number, 8) for number in range(3)] + [make.plain(1, 20 * GIB)]
    (job,) = shown(*processes, filter_text="train")
    assert not job.is_unfolded
    job, only = shown(*processes, filter_text="101")
    assert (job.memory_bytes, job.is_unfolded, only.pid) == (24 * GIB, True, 101)
    assert shown(*processes, filter_text="nothing") == []


def test_unknown_memory_is_not_zero(rank: Any, shown: Any) -> None:
    unknown = [
        replace(rank(number, 8), devices=(DeviceUse("GPU-0", None, "C"),)) for number in range(2)
    ]
    (job,) = shown(*unknown)
    assert job.text("memory") == "N/A"
    assert job.fullest_text == "r0 N/A"
    (job,) = shown(unknown[0], rank(1, 8))
    assert job.fullest_text == "r1 8.00 GiB"


@pytest.mark.parametrize("key", SORT_KEYS)
@pytest.mark.parametrize("descending", [True, False])
def test_every_column_sorts_and_loses_no_process(
    rank: Any, make: Any, shown: Any, key: str, descending: bool
) -> None:
    processes = [*(rank(number, 8) for number in range(3)), make.plain(1, GIB), make.plain(2, None)]
    rows = shown(*processes, sort_key=key, descending=descending, unfolded={JOB})
    listed = [row.process.pid for row in rows if not isinstance(row, JobRow)]
    assert sorted(listed) == [1, 2, 100, 101, 102]
    at = next(index for index, row in enumerate(rows) if isinstance(row, JobRow))
    assert {row.pid for row in rows[at + 1 : at + 4]} == {100, 101, 102}


@pytest.mark.parametrize("key", SORT_KEYS)
def test_without_jobs_it_is_the_table_of_processes(make: Any, key: str) -> None:
    processes = [make.plain(1, 5), make.process(2), make.plain(3, None)]
    fleet = reduce(Fleet(), make.snapshot(100.0, *processes, devices=(make.gpu(),)))
    assert table_rows(fleet, key) == process_rows(fleet, key)
