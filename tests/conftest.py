"""Fixtures for tests of any part: the stand-in NVIDIA driver."""

import ctypes
import gc
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.standin.standin import Standin
from vramtop.protocol import rendezvous
from vramtop.sources.recording.reader import Reader


def pytest_collection_finish():
    """What is imported by now is no garbage; every collection and every search for models in this
    process would look through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_places_of_earlier_targets(monkeypatch):
    """A viewer remembers for its life where the targets it attached to meet it; no test does."""
    monkeypatch.setattr(rendezvous, "_elsewhere", [])


@pytest.fixture
def nvml_standin(tmp_path):
    """``nvml_standin(scenario, hidden=())``: a driver for subprocesses started with its ``env``.

    ``write(scenario)`` on what it returns changes the hardware while they run. What a scenario
    may say: tests/standin/standin.py.
    """

    def start(scenario, hidden=()):
        return Standin(tmp_path, scenario, hidden)

    return start


@pytest.fixture
def nvml_here(nvml_standin, monkeypatch):
    """As ``nvml_standin``, for the real pynvml in this process."""
    import pynvml

    def start(scenario, hidden=()):
        standin = nvml_standin(scenario, hidden)
        monkeypatch.setenv("NVML_STANDIN_SCENARIO", standin.env["NVML_STANDIN_SCENARIO"])
        # The dynamic linker read LD_LIBRARY_PATH when this process began.
        monkeypatch.setattr(pynvml, "CDLL", lambda name: ctypes.CDLL(str(standin.folder / name)))
        return standin

    def forget():
        # pynvml keeps the library that it loaded first, for ever.
        pynvml.nvmlLib = None
        pynvml._nvmlGetFunctionPointer_cache.clear()

    forget()
    yield start
    forget()


@pytest.fixture(scope="session")
def other_python():
    """``other_python("3.9")``: the path of that interpreter; skips the test where there is none."""

    def find(version):
        root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
        known = shutil.which(f"python{version}")
        candidates = [*map(str, root.glob(f"versions/{version}.*/bin/python")), known]
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        for python in filter(None, candidates):  # pyenv's shims are there for absent versions too
            done = subprocess.run([python, "-c", code], capture_output=True, text=True)
            if done.stdout.strip() == version:
                return python
        return pytest.skip(f"no Python {version} here")

    return find


@pytest.fixture(scope="session")
def recorded():
    """Snapshots of a real training on the CPU, from its start to after its end.

    ``python -m tests.recordings`` has recorded them.
    """
    return read_recording(Path(__file__).parent / "recordings" / "demo.vramtop")[0]


def read_recording(path):
    """All snapshots of a recording, and what its reader says of its end."""
    reader = Reader(path)
    try:
        return [*iter(reader.next, None)], reader.ending
    finally:
        reader.close()
