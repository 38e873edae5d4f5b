"""NVML from its initialisation to its loss: what is read once, and why it could not begin."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from ...errors import BackendUnavailable
from .calls import (
    DEVICE,
    DRIVER_NOT_LOADED,
    FUNCTION_NOT_FOUND,
    GPU_NOT_FOUND,
    LIB_RM_VERSION_MISMATCH,
    LIBRARY_NOT_FOUND,
    NO_PERMISSION,
    NONSENSE,
    NOT_FOUND,
    NOT_SUPPORTED,
    PERMANENT,
    SESSION,
    SessionLost,
    name,
    natural,
)
from .device import GpuReader
from .processes import ProcessLists

_NO_DEVICE: Final = (
    "no device: the NVIDIA driver runs but sees no GPU; look for it in lspci, and in a container "
    "start that with its GPUs (docker run --gpus all)"
)
_CAUSES: Final = {
    LIBRARY_NOT_FOUND: "no library: libnvidia-ml.so.1 is not on this machine; install the NVIDIA "
    "driver, or start the container with its GPUs (docker run --gpus all)",
    DRIVER_NOT_LOADED: "driver not loaded: run sudo modprobe nvidia, or reboot",
    LIB_RM_VERSION_MISMATCH: "version mismatch: the NVIDIA library and the loaded kernel module "
    "differ, as after an upgrade; reboot, or reload the nvidia modules and restart vramtop",
    NO_PERMISSION: "no permission: this user may not talk to the NVIDIA driver; see who may open "
    "/dev/nvidiactl and /dev/nvidia0",
    NOT_FOUND: _NO_DEVICE,
    GPU_NOT_FOUND: _NO_DEVICE,
    FUNCTION_NOT_FOUND: "no library: the libnvidia-ml.so.1 that is found lacks nvmlInit; reinstall "
    "the NVIDIA driver",
    NOT_SUPPORTED: "driver not loaded: NVML says that it is not supported here; reinstall the "
    "NVIDIA driver",
}
_MOST_DEVICES: Final = 64


class Session:
    """One initialisation of NVML.

    Raises:
        BackendUnavailable: in one line, why not and what to do.
    """

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._counts = True
        self._opened = False
        self.gpus: list[GpuReader] = []
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            cause = _CAUSES.get(error.value, f"NVML does not start: {error}; see dmesg")
            raise BackendUnavailable(cause) from None
        self.missing: list[str] = []
        """What the driver does not say of itself."""
        try:
            self.plugged = plugged_gpus()
            count = self.count()
            self.driver_version = self._answer(
                "driver version", nvml.nvmlSystemGetDriverVersion, name
            )
            cuda = self._answer("CUDA version", nvml.nvmlSystemGetCudaDriverVersion_v2, natural)
        except (SessionLost, nvml.NVMLError) as error:
            self.close()
            raise BackendUnavailable(f"NVML does not start: {error}; see dmesg") from None
        self.cuda_driver_version = f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None
        lists = ProcessLists(nvml)
        self.gpus += [GpuReader(nvml, lists, index) for index in range(count)]
        self._opened = True

    @staticmethod
    def no_device() -> BackendUnavailable:
        """The error for a driver without a GPU."""
        return BackendUnavailable(_NO_DEVICE)

    def has_changed(self) -> bool:
        """Whether GPUs were added or removed since the initialisation.

        NVML may keep to the devices that it found then, so the kernel's list is looked at too.

        Raises:
            SessionLost: the driver went away.
        """
        if plugged_gpus() != self.plugged:
            return True
        return self._counts and self.count() != len(self.gpus)

    def count(self) -> int:
        """How many GPUs NVML has; those that are known already if it does not say now.

        Raises:
            SessionLost: the driver went away.
        """
        nvml = self._nvml
        try:
            return min(natural(nvml.nvmlDeviceGetCount()), _MOST_DEVICES)
        except NONSENSE:
            return len(self.gpus)
        except nvml.NVMLError as error:
            if error.value in SESSION:
                raise SessionLost(str(error)) from None
            if error.value in PERMANENT:
                self._counts = False
                return self._count_by_index()
            if not self._opened:
                raise
            return len(self.gpus)

    def close(self) -> None:
        """Release NVML; a driver that is gone already does not mind."""
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError:
            pass

    def _count_by_index(self) -> int:
        for index in range(_MOST_DEVICES):
            try:
                self._nvml.nvmlDeviceGetHandleByIndex(index)
            except self._nvml.NVMLError as error:
                if error.value in SESSION:
                    raise SessionLost(str(error)) from None
                if error.value not in DEVICE:  # a lost GPU has its index still
                    return index
        return _MOST_DEVICES

    def _answer(self, what: str, call: Any, read: Callable[[Any], Any]) -> Any:
        nvml = self._nvml
        try:
            return read(call())
        except NONSENSE:
            self.missing.append(what)
            return None
        except nvml.NVMLError as error:
            if error.value in SESSION:
                raise SessionLost(str(error)) from None
            self.missing.append(what)
            return None


def plugged_gpus() -> frozenset[str]:
    """PCI addresses of the GPUs that the NVIDIA kernel module drives; empty where it is hidden."""
    try:
        return frozenset(os.listdir("/proc/driver/nvidia/gpus"))  # noqa: PTH208  a third of the cost
    except OSError:
        return frozenset()
