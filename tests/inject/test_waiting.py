"""A process under ``vramtop run`` can be watched before it trains, while its model loads."""

import sys
from pathlib import Path

LOADING = "import torch, sys; print('loaded', flush=True); sys.stdin.read()"


def test_the_probe_listens_as_soon_as_torch_is_there(start, plain_environment, connect, wait_for):
    process = start([sys.executable, "-c", LOADING], env=plain_environment)
    assert process.stdout.readline() == b"loaded\n"
    directory = Path(plain_environment["VRAMTOP_RUNTIME_DIR"])
    (path,) = wait_for(lambda: list(directory.glob("[0-9]*.sock")), limit_s=10, what="a socket")
    viewer = connect(path)
    assert viewer.until("hello")["pid"] == process.pid
    viewer.subscribe()
    assert viewer.until("job")["models"] == []
    assert viewer.until("sample")["devices"] == []
    viewer.close()
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert list(directory.glob("*.sock")) == []


def test_a_process_without_torch_has_no_socket(start, plain_environment):
    process = start(
        [sys.executable, "-c", "print('up', flush=True); input()"], env=plain_environment
    )
    process.stdout.readline()
    assert not list(Path(plain_environment["VRAMTOP_RUNTIME_DIR"]).glob("*.sock"))
    process.communicate(b"\n", timeout=30)
