"""Runs scenarios plainly and under ``vramtop run``, watched at the shortest period."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

LIMIT_S = 120
AT_A_TIME = 3
PERIOD_S = 0.05
DROPPED = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONSAFEPATH", "PYTHONHASHSEED"}
_VARIES = (
    # The lines of glog, c10 and kineto begin with times and process numbers.
    re.compile(r"(?m)^(\[?W\d{4} [\d:.]+( +\d+)?|USDT:\S+ \S+ \d+:\d+)"),
    # A traceback through a module with hooks has another frame of torch's own in it.
    re.compile(r"""(?m)^  File ".*/torch/nn/modules/module.py".*\n(    .*\n)*"""),
)


@dataclass
class Ended:
    """What can be told of a process from outside."""

    code: int
    out: str
    err: str
    seconds: float


@dataclass
class Watched:
    """What the probes of one command's processes have sent, by process."""

    messages: dict[int, list] = field(default_factory=dict)

    def of_type(self, kind):
        return [m for sent in list(self.messages.values()) for m in sent if m["type"] == kind]


@dataclass
class Pair:
    """One scenario without vramtop and with it."""

    plain: Ended
    watched: Ended
    seen: Watched


def environment(directory, **extra):
    """That of a user who has never heard of vramtop, but for where its sockets are."""
    kept = {name: value for name, value in os.environ.items() if name not in DROPPED}
    return {**kept, "OMP_NUM_THREADS": "1", "VRAMTOP_RUNTIME_DIR": str(directory), **extra}


class Viewers:
    """Connects to every socket that appears in a directory, and keeps all that is sent.

    Speaks the protocol as its specification says it, with nothing of ours.
    """

    def __init__(self, directory):
        self.seen = Watched()
        self._directory = directory
        self._over = threading.Event()
        self._readers = []
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self):
        known = set()
        while not self._over.wait(0.02):
            for path in set(self._directory.glob("[0-9]*.sock")) - known:
                known.add(path)
                reader = threading.Thread(target=self._read, args=(path,), daemon=True)
                reader.start()
                self._readers.append(reader)

    def _read(self, path):
        sent = self.seen.messages.setdefault(int(path.name.split("-")[0]), [])
        request = {"type": "subscribe", "protocol": 1, "period_s": PERIOD_S, "history": True}
        try:
            with socket.socket(socket.AF_UNIX) as viewer:
                viewer.connect(str(path))
                viewer.sendall(json.dumps(request).encode() + b"\n")
                for line in viewer.makefile("rb"):
                    sent.append(json.loads(line))
        except OSError:  # it ended before it could be watched
            pass

    def end(self):
        self._over.set()
        for thread in (self._thread, *self._readers):
            thread.join(10)
        return self.seen


class Runs:
    """Runs each of some scenarios once, a few at a time, in the order in which they are given."""

    def __init__(self, scenarios):
        self._directory = Path(tempfile.mkdtemp(prefix="vt-", dir="/tmp"))  # sockets: 107 bytes
        self._warm = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm.py"))],
            stdin=subprocess.PIPE,
            env=environment(self._directory / "none"),
        )
        self._pool = ThreadPoolExecutor(AT_A_TIME)
        self._running = {s.name: self._pool.submit(self._pair, i, s) for i, s in scenarios}

    def of(self, scenario):
        """The finished pair of runs; waits for it."""
        return self._running[scenario.name].result()

    def close(self):
        self._pool.shutdown(cancel_futures=True)
        self._warm.stdin.close()
        self._warm.wait(10)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _pair(self, number, scenario):
        directory = self._directory / str(number)
        directory.mkdir()
        plain = self._plain(scenario, directory)
        sockets = directory / "run"
        viewers = Viewers(sockets)
        command = [sys.executable, "-m", "vramtop", "run", "--", sys.executable]
        if scenario.pause_s is None:
            command.append(str(Path(__file__).with_name("every_step.py")))
        pause = {"PAUSE_S": str(scenario.pause_s or 0)}
        watched = self._cold([*command, *scenario.command], environment(sockets, **pause))
        return Pair(plain, watched, viewers.end())

    def _plain(self, scenario, directory):
        if scenario.cold:
            return self._cold([sys.executable, *scenario.command], environment(directory / "none"))
        names = {name: str(directory / name) for name in ("out", "err", "done")}
        job = {"command": scenario.command, "env": {}, **names}
        began = time.monotonic()
        os.write(self._warm.stdin.fileno(), json.dumps(job).encode() + b"\n")
        while not (directory / "done").exists():
            if time.monotonic() - began > LIMIT_S:
                raise TimeoutError(f"{scenario.name} without vramtop takes over {LIMIT_S} s")
            time.sleep(0.02)
        code = os.waitstatus_to_exitcode(int((directory / "done").read_text()))
        texts = [(directory / name).read_text() for name in ("out", "err")]
        return _ended(code, *texts, began)

    def _cold(self, command, env):
        began = time.monotonic()
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT_S)
        return _ended(done.returncode, done.stdout, done.stderr, began)


def _ended(code, out, err, began):
    for varies in _VARIES:
        err = varies.sub("", err)
    return Ended(code, out, err, round(time.monotonic() - began, 1))
