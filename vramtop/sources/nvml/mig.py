"""The MIG instances of a partitioned GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...core.model import MigDevice
from .calls import INVALID_ARGUMENT, NOT_FOUND, Asker, DeviceLost, name, natural
from .memory import UNKNOWN_MEMORY, read_memory

OWNER = "of MIG instances"
_MOST_SLOTS = 64
"""No GPU has had more than 8; each is a call in every tick."""


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance and the handle to ask more of it."""

    handle: Any
    row: MigDevice


class MigReader:
    """Finds the instances anew in every tick: they come and go while the GPU runs."""

    def __init__(self, nvml: Any, asker: Asker) -> None:
        self._nvml = nvml
        self._asker = asker
        # By UUID, which the driver derives from GPU and both ids: it cannot mean another later.
        self._facts: dict[str, tuple[str, int | None, int | None]] = {}

    def read(self, gpu: Any) -> list[Instance]:
        """All instances that exist, in the order of their slots."""
        ask = self._asker.ask
        slots = ask(
            "MIG instances",
            self._nvml.nvmlDeviceGetMaxMigDeviceCount,
            gpu,
            read=natural,
            key="MIG count",
        )
        found = []
        for slot in range(min(slots or 0, _MOST_SLOTS)):
            handle = ask("MIG instances", self._slot, gpu, slot)
            if handle is None:
                continue
            try:
                found.append(Instance(handle, self._row(handle, slot)))
            except DeviceLost as lost:  # an instance; if it is the GPU, its next call says so
                self._asker.failed[f"MIG instance {slot}"] = str(lost)
        return found

    def _slot(self, gpu: Any, slot: int) -> Any:
        try:
            return self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, slot)
        except self._nvml.NVMLError as error:
            # Slots are not filled from the front: one that is empty says nothing of the next.
            if error.value in {NOT_FOUND, INVALID_ARGUMENT}:
                return None
            raise

    def _row(self, handle: Any, slot: int) -> MigDevice:
        nvml, ask = self._nvml, self._asker.ask
        # First, because it tells an instance that was destroyed since.
        memory = read_memory(self._asker, nvml, handle, OWNER) or UNKNOWN_MEMORY
        uuid = ask(f"UUID {OWNER}", nvml.nvmlDeviceGetUUID, handle, read=name)
        facts = self._facts.get(uuid)
        if facts is None:
            facts = (
                ask(f"name {OWNER}", nvml.nvmlDeviceGetName, handle, read=name) or "MIG instance",
                ask("GPU instance id", nvml.nvmlDeviceGetGpuInstanceId, handle, read=natural),
                ask(
                    "compute instance id", nvml.nvmlDeviceGetComputeInstanceId, handle, read=natural
                ),
            )
            if uuid and not self._asker.failed:
                self._facts[uuid] = facts
        called, gpu_instance, compute_instance = facts
        return MigDevice(
            index=slot,
            uuid=uuid or f"MIG-slot-{slot}",
            name=called,
            memory=memory,
            gpu_instance_id=gpu_instance,
            compute_instance_id=compute_instance,
        )
