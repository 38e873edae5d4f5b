"""What a probe may send: a stream over a real socket, read by the viewer's client."""

import contextlib
import json
import os
import socket
from unittest.mock import patch

from hypothesis import strategies as st

from tests.fuzz import rendering, values
from tests.fuzz.harness import Fuzzer
from tests.fuzz.rendezvous import runtime_directory
from vramtop.core.model import Device, DeviceMemory, DeviceUse
from vramtop.sources import kernel, postmortem
from vramtop.sources.base import DeviceReading
from vramtop.sources.collector import Collector
from vramtop.sources.recording.codec import decode, encode
from vramtop.sources.recording.shared import ReadObjects, WrittenObjects, compact

_ROUNDS = 40
_PIECE_BYTES = 100_000


class OneGpu:
    """A backend with the GPU that the corpus speaks of, and this process on it."""

    name = "nvml"

    def read(self):
        memory = DeviceMemory(80 << 30, 9 << 30, 71 << 30, 0, 0)
        device = Device(0, "GPU-0", "Fake GPU", "nvml", memory)
        uses = {os.getpid(): (DeviceUse("GPU-0", 8 << 30, "C"),)}
        return DeviceReading((device,), uses)

    def close(self):
        pass


def heard(directory, stream):
    """The snapshots of a viewer while a probe sends the stream, and after it has closed."""
    listener = socket.socket(socket.AF_UNIX)
    collector = Collector("host")
    collector._backend = OneGpu()
    path = directory / "4321-1.sock"
    peer = None
    try:
        listener.bind(str(path))
        listener.listen()
        collector._read()
        peer, _ = listener.accept()
        peer.setblocking(False)
        rest = memoryview(stream)
        for _ in range(_ROUNDS + len(stream) // 20_000):
            try:
                rest = rest[peer.send(rest[:_PIECE_BYTES]) :]
            except BlockingIOError:
                pass
            except OSError:
                break  # it has heard enough
            if not rest:
                break
            collector._clients.read()
        listening = collector._read()
        path.unlink()
        peer.close()
        yield listening
        with patch.object(kernel, "is_running", lambda *_: False):  # as if it had been killed
            yield collector._read()
    finally:
        path.unlink(missing_ok=True)
        listener.close()
        collector._close()
        if peer is not None:
            peer.close()


@contextlib.contextmanager
def _opened():
    with runtime_directory() as directory:

        def check(stream):
            snapshots = list(heard(directory, stream))
            for snapshot in snapshots:
                assert {p.source for p in snapshot.problems} <= {"probes", f"probe {os.getpid()}"}
                assert all(len(p.message) < 500 for p in snapshot.problems)
            rendering.render(*snapshots)
            assert [recorded(snapshot) for snapshot in snapshots] == snapshots
            for path in postmortem.stored():  # of the process that ended without a word
                rendering.render(postmortem.read(path).snapshot)
                path.unlink()

        yield check


def recorded(snapshot):
    """As it comes out of a recording."""
    line = compact(encode(snapshot, WrittenObjects()))
    return decode(json.loads(line), ReadObjects())


def mutated(random):
    """A few messages of a probe, spoilt; sometimes their bytes as well."""
    picked = [random.choice(values.CORPUS) for _ in range(random.randrange(1, 6))]
    told = [values.spoilt(random, m) if random.random() < 0.5 else m for m in picked]
    stream = b"".join(map(values.line, [*values.CORPUS[: random.choice((0, 9))], *told]))
    return values.mangled(random, stream) if random.random() < 0.2 else stream


STREAMS = st.lists(values.messages(), max_size=5).map(
    lambda told: b"".join(map(values.line, told))
) | st.binary(max_size=500)

FUZZER = Fuzzer("what probes send", _opened, mutated, STREAMS)
