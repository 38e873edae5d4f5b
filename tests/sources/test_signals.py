import signal
import subprocess
import sys

import psutil
import pytest

from vramtop.errors import VramtopError
from vramtop.sources import kernel, signals


@pytest.fixture
def child():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_the_signal_reaches_the_process(child):
    signals.send(child.pid, psutil.Process(child.pid).create_time(), signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM


def test_who_was_asked_to_end_is_known_for_a_while(child, monkeypatch):
    ticks = kernel.start_ticks(child.pid)
    assert not signals.was_asked_to_end(child.pid, ticks)
    signals.send(child.pid, psutil.Process(child.pid).create_time(), signal.SIGTERM)
    assert signals.was_asked_to_end(child.pid, ticks)
    assert not signals.was_asked_to_end(child.pid, ticks + 1)
    monkeypatch.setattr(signals, "_ENDS_WITHIN_S", 0.0)
    assert not signals.was_asked_to_end(child.pid, ticks)


def test_a_reused_pid_is_left_alone(child):
    with pytest.raises(VramtopError, match="another process now"):
        signals.send(child.pid, psutil.Process(child.pid).create_time() - 100, signal.SIGKILL)
    with pytest.raises(VramtopError, match="another process now"):
        signals.send(child.pid, None, signal.SIGKILL)
    assert child.poll() is None


def test_a_process_that_has_ended_is_said_so(child):
    started = psutil.Process(child.pid).create_time()
    child.kill()
    child.wait()
    with pytest.raises(VramtopError, match="has ended"):
        signals.send(child.pid, started, signal.SIGTERM)
