"""The device backend over NVML: all GPUs in one tick, through driver reloads and hot plugging."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final

from ...core.model import BackendName, Device, DeviceUse, Problem
from ...errors import BackendUnavailable
from ..base import DeviceReading
from .calls import SessionLost
from .device import GpuReader, Uses
from .session import Session

_SOURCE: Final = "nvml"
_LONGEST_PAUSE_S: Final = 10.0
"""Between attempts to initialise NVML again: each may wake GPUs up."""


class NvmlBackend:
    """NVIDIA GPUs (a ``DeviceBackend``); use it from one thread.

    Memory is the device's own account (``used`` without the driver's reserve, where the driver
    knows version 2 of the call); a process's figure is the driver's for that process; pids are as
    NVML gives them. What is unattributed stays None while any process's share is unknown.

    Raises:
        BackendUnavailable: one line, with the cause and what to do.
    """

    name: BackendName = "nvml"

    def __init__(self) -> None:
        try:
            import pynvml
        except ImportError:
            raise BackendUnavailable(
                "no library: the Python package nvidia-ml-py is missing; run pip install "
                "nvidia-ml-py"
            ) from None
        self._nvml = pynvml
        self._session: Session | None = Session(pynvml)
        self._gpus: list[GpuReader] = self._session.gpus
        self._away: str = ""
        self._pause_s = 0.0
        self._try_again_at = 0.0
        self._seen: dict[str, str] = {}
        if not self._gpus:
            self.close()
            raise Session.no_device()

    def read(self) -> DeviceReading:
        """Read all GPUs now; what fails is a problem and, for a whole GPU, an age."""
        if self._must_reopen():
            self._reopen()
        views = self._views()
        if self._any_lost_session() and self._reopen():
            views = self._views()
        if views is None:
            return self._stale()
        if not self._any_lost_session():
            self._pause_s = self._try_again_at = 0.0
        return _reading(views, self._problems(views), self._session)

    def close(self) -> None:
        """Release NVML."""
        if self._session is not None:
            self._session.close()
            self._session = None

    # ---- the session ----------------------------------------------------------------------------

    def _must_reopen(self) -> bool:
        if self._session is None:
            return True
        try:
            return self._session.has_changed()
        except SessionLost:
            return True

    def _reopen(self) -> bool:
        """Initialise NVML again, unless that was tried too recently; whether it was tried.

        Afterwards there is a new session, or none and ``_away`` says why.
        """
        now = time.monotonic()
        if now < self._try_again_at:
            return False
        self._pause_s = min(max(1.0, self._pause_s * 2), _LONGEST_PAUSE_S)
        self._try_again_at = now + self._pause_s
        self.close()
        try:
            session = Session(self._nvml)
        except BackendUnavailable as error:
            self._away = str(error)
            return True
        if len(session.gpus) == len(self._gpus):  # else an index may mean another GPU now
            for new, old in zip(session.gpus, self._gpus, strict=True):
                new.inherit(old)
        self._session, self._gpus = session, session.gpus
        return True

    # ---- one tick -------------------------------------------------------------------------------

    def _views(self) -> list[tuple[Device, Uses]] | None:
        return None if self._session is None else [gpu.read() for gpu in self._gpus]

    def _any_lost_session(self) -> bool:
        return self._session is not None and any(gpu.session_lost for gpu in self._gpus)

    def _problems(self, views: Iterable[tuple[Device, Uses]]) -> list[Problem]:
        problems = [Problem(_SOURCE, text) for text in _grouped(self._gpus)]
        if self._session and self._session.missing:
            what = ", ".join(self._session.missing)
            problems.append(Problem(_SOURCE, f"the driver does not report its {what}"))
        problems += self._gone([device for device, _ in views])
        return problems

    def _stale(self) -> DeviceReading:
        problem = Problem(
            _SOURCE, f"the driver is away ({self._away}); showing the last values, trying again"
        )
        return _reading([gpu.last() for gpu in self._gpus], [problem], None)

    def _gone(self, devices: list[Device]) -> Iterator[Problem]:
        """GPUs that were there and are no longer, until they come back."""
        now = {device.uuid for device in devices}
        for uuid, label in self._seen.items():
            if uuid not in now:
                yield Problem(_SOURCE, f"{label} is gone: removed, or fallen off the bus")
        for device in devices:
            if device.stale_s is None:
                self._seen[device.uuid] = f"GPU {device.index} ({device.name}, {device.uuid})"


def _reading(
    views: Iterable[tuple[Device, Uses]], problems: list[Problem], session: Session | None
) -> DeviceReading:
    devices = []
    uses: dict[int, tuple[DeviceUse, ...]] = {}
    for device, held in views:
        devices.append(device)
        for pid, use in held:
            uses[pid] = (*uses.get(pid, ()), use)
    return DeviceReading(
        devices=tuple(devices),
        uses=uses,
        problems=tuple(problems),
        driver_version=session.driver_version if session else None,
        cuda_driver_version=session.cuda_driver_version if session else None,
    )


def _grouped(gpus: Iterable[GpuReader]) -> Iterator[str]:
    """What went wrong, one line a cause with the GPUs that it befell."""
    befell: dict[str, list[int]] = {}
    for gpu in gpus:
        for text in _complaints(gpu):
            befell.setdefault(text, []).append(gpu.index)
    for text, indices in befell.items():
        yield f"GPU {_ranges(indices)}: {text}"


def _complaints(gpu: GpuReader) -> Iterator[str]:
    if gpu.trouble is not None:
        yield f"{gpu.trouble}; showing the last values"
        return
    asker = gpu.asker
    if asker.denied:
        yield f"no permission to read {', '.join(sorted(asker.denied))}; root may"
    for what, why in asker.failed.items():
        yield f"{what}: {why}"
    yield from gpu.notes
    if asker.unsupported:
        yield f"the driver does not report {', '.join(asker.unsupported)}"


def _ranges(indices: list[int]) -> str:
    """0, 1, 2, 5 as ``0-2, 5``; the indices ascend."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][-1] == index - 1:
            runs[-1][1:] = [index]
        else:
            runs.append([index])
    return ", ".join("-".join(map(str, run)) for run in runs)
