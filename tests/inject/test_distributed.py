"""Launchers of ranks: each rank has a probe of its own, which knows its rank."""

import importlib.util
import socket
import sys
from pathlib import Path

import pytest

SCRIPT = str(Path(__file__).with_name("ranks_training.py"))
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# --multi_gpu is its name for "a process a rank"; on a CPU alone the training uses gloo.
ACCELERATE = [
    *("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "FREE"),
]


@pytest.mark.parametrize(
    "launcher",
    [
        TORCHRUN,
        pytest.param(
            ACCELERATE,
            marks=pytest.mark.skipif(
                importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed"
            ),
        ),
    ],
    ids=lambda launcher: launcher[0],
)
def test_each_rank_has_its_socket(start, plain_environment, connect, wait_for, tmp_path, launcher):
    stop = tmp_path / "stop"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    process = start(
        [
            sys.executable,
            "-m",
            *(port if word == "FREE" else word for word in launcher),
            SCRIPT,
            stop,
        ],
        env={**plain_environment, "OMP_NUM_THREADS": "1"},
    )
    try:
        directory = Path(plain_environment["VRAMTOP_RUNTIME_DIR"])
        paths = wait_for(
            lambda: len(found := list(directory.glob("[0-9]*.sock"))) == 2 and found,
            limit_s=60,
            what="two sockets",
        )
        seen = {}
        for path in paths:
            viewer = connect(path)
            pid = viewer.until("hello")["pid"]
            viewer.subscribe()
            job = viewer.until("job")
            seen[job["rank"]] = pid, job["local_rank"], job["world_size"]
            while not viewer.until("sample")["step"]:  # null before the first
                pass
            viewer.close()
        stop.touch()
        out, err = process.communicate(timeout=60)
    finally:
        process.terminate()  # both launchers then end their ranks, which have sessions of their own
        process.wait(30)
    assert process.returncode == 0, err.decode()
    printed = {int(rank): int(pid) for rank, pid in map(str.split, out.decode().splitlines())}
    assert seen == {rank: (pid, rank, 2) for rank, pid in printed.items()}
    assert sorted(printed) == [0, 1]
