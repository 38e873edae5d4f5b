"""The domain values: one frozen ``Snapshot`` is all that the app, the reports and records consume.

Units are in the names. Unknown is ``None`` (and a ``Problem`` in the snapshot says why), never 0.
Times are seconds since the epoch, as a float.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from .failure import Failure
from .memory import Breakdown, Detail, SegmentMap, Stage

BackendName = Literal["nvml", "host"]
ProcessState = Literal["running", "gone", "invisible"]
"""``gone``: the driver still lists a pid that has exited. ``invisible``: alive or not, this
process may not look at it (another pid namespace, hidepid)."""
ProbeLink = Literal["streaming", "waiting", "stale", "gone", "none"]
"""``waiting``: connected, torch not imported yet or nothing published. ``stale``: connected but
silent for several periods. ``gone``: the socket closed; the values are the last ones."""
Ended = Literal["exit", "detached", "lost"]
"""Why a probe is gone: its process ended in order, it was detached, or neither was said."""
DetailState = Literal["ready", "pending", "off"]
"""Whether a step has been sampled in detail; ``off``: none will be."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a source could not read, in words a user can act on."""

    source: str
    message: str


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Memory of one device, as its driver reports it.

    ``used_bytes`` is the device's own figure without the driver's reserve;
    ``unattributed_bytes`` = used - sum over visible processes (dead pids, managed memory, other
    containers), None where a process's share is unknown.
    """

    total_bytes: int | None
    used_bytes: int | None
    free_bytes: int | None
    driver_reserved_bytes: int | None = None
    unattributed_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class MigDevice:
    """One MIG instance of a device."""

    index: int
    uuid: str
    name: str
    memory: DeviceMemory
    gpu_instance_id: int | None = None
    compute_instance_id: int | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU, or the host's RAM where ``backend`` is ``host``."""

    index: int
    uuid: str
    name: str
    backend: BackendName
    memory: DeviceMemory
    utilization_percent: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    unified_memory: bool = False
    """The GPU shares the host's RAM: its memory figures are the host's."""
    mig: tuple[MigDevice, ...] = ()
    stale_s: float | None = None
    """Age of these values when the device can no longer be read; None while they are fresh."""


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """What one process holds on one device (or MIG instance), by the driver's account."""

    uuid: str
    used_bytes: int | None
    kind: str
    """Any of the letters C (compute), G (graphics), M (MPS), together as nvidia-smi shows them;
    H on the host device."""


@dataclass(frozen=True, slots=True)
class AllocatorStats:
    """Counters of PyTorch's caching allocator on one device (torch.cuda.memory_stats)."""

    allocated_bytes: int
    reserved_bytes: int
    active_bytes: int
    requested_bytes: int | None
    inactive_split_bytes: int | None
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    segments: int
    alloc_retries: int
    ooms: int


@dataclass(frozen=True, slots=True)
class ProbeDevice:
    """What the probe says about one torch device; ``uuid`` joins it to a ``Device``."""

    device: str
    uuid: str | None
    allocator: AllocatorStats | None
    breakdown: Breakdown | None
    detail: Detail | None = None
    """The last step sampled in detail; None before the first."""
    segments: SegmentMap | None = None
    stages: tuple[Stage, ...] = ()
    boundary: str | None = None
    """The phase that had ended last when the sample was taken, as ``Phase.name``."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One root module that the probe found."""

    class_name: str
    parameters: int
    trainable_parameters: int
    parameters_by_dtype: dict[str, int]
    batch_shapes: tuple[tuple[int, ...], ...] = ()
    """Shapes of the tensors given to the last forward."""
    hf_config: dict[str, Any] | None = None
    """The Hugging Face configuration, where the model has one."""
    trainable_by_dtype: dict[str, int] = field(default_factory=dict)
    """Elements of the parameters that get gradients."""
    tensors: int | None = None
    trainable_tensors: int | None = None
    """Number of parameters, not of their elements."""
    arguments: tuple[str, ...] = ()
    """Names of the tensors given to the last forward, in the order of ``batch_shapes``;
    positional ones by their number: "0"."""
    training: bool | None = None
    """The module's mode in its last forward."""
    autocast: str | None = None
    """dtype of autocast in the last forward ("bfloat16"), None without it."""
    attention: str | None = None
    """transformers' attention implementation: eager, sdpa, flash_attention_2 …"""
    checkpointing: bool | None = None
    """Whether gradient checkpointing is on in a module of transformers; None: it has no switch."""
    lora: dict[str, Any] | None = None
    """PEFT's: rank, targets (a list), dropout; None without adapters."""
    wrappers: tuple[str, ...] = ()
    """Class names around the model: DistributedDataParallel, FullyShardedDataParallel …"""
    quantized: str | None = None
    """Class of quantised parameters (Params4bit, Int8Params), None without any."""


@dataclass(frozen=True, slots=True)
class OptimizerInfo:
    """One optimizer that the probe has seen step."""

    class_name: str
    steps: int
    defaults: dict[str, Any]
    module: str = ""
    """Where the class is defined: torch.optim.adamw, bitsandbytes.optim.adamw …"""
    state_by_dtype: dict[str, int] = field(default_factory=dict)
    """Elements of its state's tensors of more than one element."""
    parameters: int | None = None
    """Elements of its parameters."""


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """One past sample of one torch device; the timeline is drawn from these."""

    at: float
    step: int | None
    breakdown: Breakdown


@dataclass(frozen=True, slots=True)
class Probe:
    """The state of one process's probe and its last values."""

    state: ProbeLink
    at: float | None = None
    """When the last sample was taken."""
    python: str | None = None
    torch: str | None = None
    cuda: str | None = None
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    step: int | None = None
    steps_per_s: float | None = None
    overhead_percent: float | None = None
    dropped_samples: int = 0
    models: tuple[ModelInfo, ...] = ()
    optimizers: tuple[OptimizerInfo, ...] = ()
    devices: tuple[ProbeDevice, ...] = ()
    history: dict[str, tuple[HistoryPoint, ...]] | None = None
    """Past samples by torch device, oldest first; given once, in the first snapshot after the
    connection, so that a viewer who comes late sees what was."""
    detail: DetailState | None = None
    """None where the probe does not say."""
    problem: str | None = None
    """What the probe could not do, in its own words."""
    group: str | None = None
    """Names the job whose rank this is, the same for all its ranks on all hosts; None: no rank."""
    failure: Failure | None = None
    """The last allocation that failed, or how the process was lost."""
    caught_ooms: int = 0
    """Failed allocations after which the program went on."""
    ended: Ended | None = None
    """Of a probe that is gone."""

    @property
    def has_outlived_failure(self) -> bool:
        """It has trained on since: then a thread had failed, and its end is another story."""
        failure, last = self.failure, self.step
        if failure is None or failure.kind != "oom" or failure.step is None or last is None:
            return False
        return failure.step < last


@dataclass(frozen=True, slots=True)
class Process:
    """One process on a device, and its probe where it has one; identity is (pid, started_at)."""

    pid: int
    started_at: float | None
    state: ProcessState = "running"
    user: str | None = None
    command: str | None = None
    devices: tuple[DeviceUse, ...] = ()
    host_rss_bytes: int | None = None
    cpu_percent: float | None = None
    container: str | None = None
    probe: Probe = Probe(state="none")

    @property
    def key(self) -> tuple[int, float | None]:
        """Identity across snapshots: pids are reused, (pid, start time) is not."""
        return (self.pid, self.started_at)

    @property
    def used_bytes(self) -> int | None:
        """Sum over devices of the driver's figure, None where no device knows it."""
        known = [use.used_bytes for use in self.devices if use.used_bytes is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class Host:
    """The machine."""

    hostname: str
    ram_total_bytes: int | None
    ram_used_bytes: int | None
    cpu_percent: float | None = None
    driver_version: str | None = None
    cuda_driver_version: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that was read in one tick."""

    taken_at: float
    host: Host
    devices: tuple[Device, ...]
    processes: tuple[Process, ...]
    problems: tuple[Problem, ...] = ()
    period_s: float | None = None


@dataclass(frozen=True, slots=True)
class PostMortem:
    """What was known of one process when an allocation failed or it was lost."""

    snapshot: Snapshot
    """That one process, its past in ``Probe.history``; the devices and the host as far as known."""
    failure: Failure
    written_at: float
    written_by: Literal["probe", "viewer"]
    traceback: str | None = None
    """Of the exception that nobody caught."""
    prediction: dict[str, Any] | None = None
    """As in ``vramtop --once --json``; None where no viewer knew one."""

    @property
    def process(self) -> Process:
        """The process that it is about."""
        return self.snapshot.processes[0]
