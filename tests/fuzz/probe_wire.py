"""What a viewer may send: bytes, half lines and floods to the server inside a training."""

import contextlib
import json
import os
import socket
import time

from hypothesis import strategies as st

from tests.fuzz import values
from tests.fuzz.harness import Fuzzer
from tests.fuzz.rendezvous import runtime_directory
from vramtop.probe.faults import Faults
from vramtop.probe.history import History
from vramtop.probe.server import Server
from vramtop.probe.updates import Updates

_SUBSCRIBE = {"type": "subscribe", "protocol": 1, "period_s": 0.05, "history": True}
_DETACH = {"type": "detach", "protocol": 1}
_MOST_TRIES = 50


class Content:
    """As much as a small training sends; does not leave when it is told to."""

    def __init__(self):
        self.updates = Updates()
        self.past = History()
        for second in range(300):
            self.past.add(float(second), {"cpu": [float(second), second, *[1] * 15]})
        self.told = {m["type"]: m for m in values.CORPUS}
        self.updates.put("detail cpu", self.told["detail"])

    def hello(self):
        return self.told["hello"]

    def job(self):
        return self.told["job"]

    def sample(self):
        return self.told["sample"]

    def history(self):
        return self.past.lines(500)

    def watched(self, period_s):
        assert period_s is None or 0.05 <= period_s <= 60.0

    def detach(self):
        pass

    def chores(self):
        return None


@contextlib.contextmanager
def _opened():
    with runtime_directory() as directory:
        faults = Faults()
        server = Server(Content(), faults)
        server.start()
        (path,) = directory.iterdir()
        good = socket.socket(socket.AF_UNIX)
        good.settimeout(20)
        good.connect(os.fspath(path))
        good.sendall(values.line(_SUBSCRIBE))
        lines = good.makefile("rb")

        def check(given):
            stream, reads = given
            with socket.socket(socket.AF_UNIX) as bad:
                bad.connect(os.fspath(path))
                bad.setblocking(False)
                send(bad, stream, reads)
            while json.loads(lines.readline())["type"] != "sample":
                pass  # who is watching goes on being served
            assert server._thread.is_alive()
            assert not faults.messages, faults.messages

        try:
            yield check
        finally:
            good.close()
            server.stop()


def send(bad, stream, reads):
    """As much of the stream as is taken; ``reads``: whether what comes back is read."""
    rest = memoryview(stream)
    for _ in range(_MOST_TRIES):
        try:
            rest = rest[bad.send(rest[:9000]) :] if rest else rest
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:
            return  # dropped, as it should be
        if reads:
            with contextlib.suppress(OSError):
                bad.recv(1 << 16)
        if not rest:
            return


def mutated(random):
    """(stream, reads): requests spoilt, repeated, cut; or too long a line."""
    requests = [random.choice((_SUBSCRIBE, _DETACH)) for _ in range(random.choice((1, 2, 5, 200)))]
    stream = b"".join(
        values.line(values.spoilt(random, request) if random.random() < 0.5 else request)
        for request in requests
    )
    chance = random.random()
    if chance < 0.4:
        stream = values.mangled(random, stream)
    elif chance < 0.6:
        stream = stream[: random.randrange(len(stream))]
    elif chance < 0.65:
        stream += random.choice((b"x", b"[", b"\n", b" ")) * 200_000
    return stream, random.random() < 0.5


STREAMS = st.tuples(
    st.binary(max_size=500)
    | st.lists(values.messages([_SUBSCRIBE, _DETACH]), max_size=5).map(
        lambda told: b"".join(map(values.line, told))
    ),
    st.booleans(),
)
FUZZER = Fuzzer("what viewers send", _opened, mutated, STREAMS)
