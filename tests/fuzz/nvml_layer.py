"""What a driver may answer: any error, nonsense of the right C type and of none, GPUs that go."""

import contextlib
import ctypes
import struct
import sys
from types import SimpleNamespace
from unittest.mock import patch

import psutil  # noqa: F401  see ``check``
from hypothesis import strategies as st

from tests.fuzz import rendering
from tests.fuzz.harness import Fuzzer
from tests.fuzz.rendezvous import runtime_directory
from tests.fuzz.values import TEXTS
from vramtop.errors import BackendUnavailable
from vramtop.sources.collector import Collector
from vramtop.sources.nvml import NvmlBackend

_READS = 3
_U32 = (0, 1, 2, 100, 2**31, 2**32 - 1)
_U64 = (0, 1, 8 << 30, 2**63, 2**64 - 1)
_WRONG = (None, "", "\x1b[2J", -1, 2**70, float("nan"), [], (), b"\xff", {}, object)
_CODES = (*range(1, 31), 999, -5, 12345)
_LISTS = ("Compute", "Graphics", "MPSCompute")


def _memory(value):
    return SimpleNamespace(total=value, used=value, free=value, reserved=value)


KINDS = {
    "nvmlInit": _U32,
    "nvmlShutdown": _U32,
    "nvmlDeviceGetCount": (0, 1, 2, 2, 3, 3, 2**32 - 1),
    "nvmlSystemGetDriverVersion": TEXTS,
    "nvmlSystemGetCudaDriverVersion_v2": _U32,
    "nvmlDeviceGetHandleByIndex": ("handle", 0),
    "nvmlDeviceGetUUID": TEXTS,
    "nvmlDeviceGetName": TEXTS,
    "nvmlDeviceGetMemoryInfo": tuple(map(_memory, (*_U64, *_WRONG))),
    "nvmlDeviceGetMigMode": tuple([a, b] for a in (0, 1, 2**32 - 1) for b in (0, 1)),
    "nvmlDeviceGetMaxMigDeviceCount": _U32,
    "nvmlDeviceGetMigDeviceHandleByIndex": ("handle", 0),
    "nvmlDeviceGetGpuInstanceId": _U32,
    "nvmlDeviceGetComputeInstanceId": _U32,
    "nvmlDeviceGetUtilizationRates": tuple(SimpleNamespace(gpu=n, memory=n) for n in _U32),
    "nvmlDeviceGetTemperature": _U32,
    "nvmlDeviceGetTemperatureV": (*_U32, -40),
    "nvmlDeviceGetPowerUsage": _U32,
    "nvmlDeviceGetPowerManagementLimit": _U32,
    "nvmlDeviceGetClockInfo": _U32,
    **{f"nvmlDeviceGet{kind}RunningProcesses": _U32 for kind in _LISTS},
}
"""What each call may answer, by C's types; a list's is the number of its entries."""
USUAL = {
    "nvmlDeviceGetCount": 2,
    "nvmlSystemGetDriverVersion": "550.54.14",
    "nvmlSystemGetCudaDriverVersion_v2": 12040,
    "nvmlDeviceGetHandleByIndex": "handle",
    "nvmlDeviceGetUUID": "GPU-0",
    "nvmlDeviceGetName": "Fake GPU",
    "nvmlDeviceGetMemoryInfo": _memory(8 << 30),
    "nvmlDeviceGetMigMode": [0, 0],
    "nvmlDeviceGetMaxMigDeviceCount": 7,
    "nvmlDeviceGetMigDeviceHandleByIndex": "instance",
    "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=50, memory=20),
    **{f"nvmlDeviceGet{kind}RunningProcesses": 1 for kind in _LISTS},
}


class Driver:
    """In pynvml's place: answers by a script, a call's answers in turn, then as usual."""

    nvmlMemory_v2 = 2

    def __init__(self, script):
        import pynvml

        self.NVMLError = pynvml.NVMLError
        self._script = {call: list(answers) for call, answers in script.items()}

    def __getattr__(self, name):
        if name not in KINDS:
            raise AttributeError(name)
        return lambda *_, **__: self._answer(name)

    def _nvmlGetFunctionPointer(self, name):
        base = name.removesuffix("_v2").removesuffix("_v3")
        return lambda _, count, buffer: self._list(base, count, buffer)

    def _answer(self, name):
        waiting = self._script.get(name)
        error, value = waiting.pop(0) if waiting else (0, USUAL.get(name, 1))
        if error:
            raise self.NVMLError(error)
        return value

    def _list(self, name, count, buffer):
        try:
            answer = self._answer(name)
        except self.NVMLError as error:
            return error.value
        entries = answer if isinstance(answer, int) and 0 <= answer < 2**32 else 1
        capacity = count._obj.value
        count._obj.value = entries
        if entries > capacity and entries % 2:
            return 7  # NVML_ERROR_INSUFFICIENT_SIZE
        entry = struct.pack("=I4xQII", 2**32 - 1 - entries, entries, 0, 0)
        written = (entry * min(entries, capacity))[: len(buffer)]
        ctypes.memmove(buffer, written, len(written))
        return 0


@contextlib.contextmanager
def _opened():
    with runtime_directory():
        yield check


def check(script):
    """Readings in turn, the driver opened anew for each where it went away."""
    # Afterwards the modules are as before: what is imported inside would be anew every time.
    with patch.dict(sys.modules, {"pynvml": Driver(script)}):
        try:
            backend = NvmlBackend()
        except BackendUnavailable:
            return
        collector = Collector("nvml")
        collector._backend = backend
        snapshots = []
        for _ in range(_READS):
            backend._try_again_at = 0.0
            snapshots.append(collector._read())
        collector._close()
        rendering.render(snapshots[0], snapshots[-1])


def mutated(random):
    """A few calls with a few answers each: errors, nonsense, the usual."""

    def answer(call):
        chance = random.random()
        if chance < 0.35:
            return random.choice(_CODES), None
        if chance < 0.75:
            return 0, random.choice(KINDS[call])
        if chance < 0.85:
            return 0, random.choice(_WRONG)
        return 0, USUAL.get(call, 1)

    calls = random.sample(sorted(KINDS), random.choice((1, 2, 4, 10)))
    return {call: [answer(call) for _ in range(random.choice((1, 2, 3, 50)))] for call in calls}


_ANSWERS = (
    st.tuples(st.sampled_from(_CODES), st.none())
    | st.tuples(st.just(0), st.sampled_from([*_U32, *_U64, *TEXTS, *_WRONG]))
    | st.tuples(st.just(0), st.integers(0, 2**32 - 1))
)
SCRIPTS = st.dictionaries(
    st.sampled_from(sorted(KINDS)), st.lists(_ANSWERS, max_size=6), max_size=5
)

FUZZER = Fuzzer("what a driver answers", _opened, mutated, SCRIPTS)
