"""What a process's memory is for: breakdown, phases, peak, modules, stages, the allocator's map.

Domain values like those of ``model``, which holds them; bytes everywhere, unknown is ``None``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

TENSOR_CATEGORIES: Final = (
    "parameter",
    "gradient",
    "optimizer_state",
    "activation",
    "input",
    "temporary",
    "autograd_detail",
    "unknown",
)
"""What live tensors are for: the categories of PyTorch's memory profiler
(torch/profiler/_memory_profiler.py), in the order in which they are shown."""
CATEGORIES: Final = (*TENSOR_CATEGORIES, "cached", "fragmentation", "outside_allocator")
"""The rows of a breakdown, in the order in which every bar and table shows them."""
PARTS: Final = (
    ("buffer", "parameter"),
    ("autocast_cache", "activation"),
    ("kv_cache", "activation"),
    ("recomputed", "autograd_detail"),
)
"""Named parts of a category (part, category): told apart within it, never added to it."""


@dataclass(frozen=True, slots=True)
class Breakdown:
    """A process's memory on one device by what it is for; storages are counted once.

    On a GPU the eight ``TENSOR_CATEGORIES`` sum to allocated, ``cached`` + ``fragmentation`` =
    reserved - allocated, ``outside_allocator`` = process - reserved. On the CPU there is no
    allocator to ask: ``cached`` and ``fragmentation`` are None, ``outside_allocator`` = RSS - what
    the tensors hold. So all that is known sums to ``process_bytes`` exactly.

    What only a step sampled in detail can tell (activation to unknown) is None before the first;
    what a GPU's allocator counts beyond the rest is unknown until then.
    ``cached`` is free whole segments, ``fragmentation`` free pieces of segments in use.
    """

    parameter_bytes: int
    gradient_bytes: int
    optimizer_state_bytes: int
    activation_bytes: int | None = None
    input_bytes: int | None = None
    temporary_bytes: int | None = None
    autograd_detail_bytes: int | None = None
    unknown_bytes: int | None = None
    cached_bytes: int | None = None
    fragmentation_bytes: int | None = None
    outside_allocator_bytes: int | None = None
    process_bytes: int | None = None
    buffer_bytes: int = 0
    """Part of ``parameter``: module buffers."""
    autocast_cache_bytes: int = 0
    """Part of ``activation``: autocast's copies of weights in the lower precision."""
    kv_cache_bytes: int = 0
    """Part of ``activation``: keys and values kept between the steps of a generation."""
    recomputed_bytes: int = 0
    """Part of ``autograd_detail``: activations made again by gradient checkpointing."""

    def bytes_of(self, category: str) -> int | None:
        """Bytes in one of ``CATEGORIES`` or a part, None where unknown."""
        value: int | None = getattr(self, category + "_bytes")
        return value

    def largest(self) -> str | None:
        """The category with most bytes, None while nothing is counted."""
        known = [(self.bytes_of(c) or 0, c) for c in CATEGORIES]
        size, category = max(known, key=lambda pair: pair[0])
        return category if size else None

    @property
    def tensor_bytes(self) -> int:
        """Sum of the tensor categories that are known; on a GPU allocated."""
        return sum(self.bytes_of(category) or 0 for category in TENSOR_CATEGORIES)


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of a sampled step, in the order in which they ran.

    Runs that repeat within a step (gradient accumulation: forward, backward, forward, backward)
    are folded: ``after`` of the last, the largest peak, and ``before`` so that each goes on where
    the one before it has ended (the first of them: ``before`` of its first run).
    """

    name: str
    """forward, backward, step, zero_grad, evaluation, generation, or ``other`` between them."""
    before_bytes: int
    after_bytes: int
    peak_bytes: int | None
    """The most during the phase, at least before and after; None where only the ends were seen."""
    count: int = 1
    after: Breakdown | None = None
    """What the bytes after it are for: the tensor categories and their parts."""

    @property
    def change_bytes(self) -> int:
        """After less before."""
        return self.after_bytes - self.before_bytes


@dataclass(frozen=True, slots=True)
class Peak:
    """The fullest moment of the sampled step."""

    phase: str
    module: str | None
    """Path of the innermost module in whose forward or backward it was; "" is the root itself."""
    total_bytes: int
    breakdown: Breakdown


@dataclass(frozen=True, slots=True)
class ModuleUse:
    """One module that holds memory of its own (without that of the modules inside it)."""

    path: str
    """Dotted path from the root module, "" for the root itself."""
    class_name: str
    activation_bytes: int
    """At the moment of the step when activations were most."""
    parameter_bytes: int


@dataclass(frozen=True, slots=True)
class Detail:
    """What one step sampled in detail has told of one torch device."""

    at: float
    step: int | None
    phases: tuple[Phase, ...]
    peak: Peak | None
    modules: tuple[ModuleUse, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be told apart, and why, in words for the user."""
    batch_shapes: tuple[tuple[int, ...], ...] = ()
    """Shapes of the tensors given to the last forward of the sampled step."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One of the user's own stages (``vramtop.stage``) on one torch device, last time it ran."""

    path: str
    """Names from the outermost stage inwards, joined by " / "."""
    calls: int
    before_bytes: int
    after_bytes: int
    peak_bytes: int | None
    seconds: float


BlockState = Literal["allocated", "pending", "free"]
"""``pending``: freed by the program, held back until a stream has passed (active_pending_free)."""


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a segment; neighbours of one kind may be reported as one."""

    size_bytes: int
    state: BlockState
    category: str | None = None
    """One of ``TENSOR_CATEGORIES`` for an allocated block, None where it is not known."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of the caching allocator (one cudaMalloc), its blocks in order of address."""

    total_bytes: int
    pool: str
    """small or large; ``graph N`` for a private pool."""
    stream: int
    expandable: bool
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class SegmentMap:
    """The caching allocator's segments on one device at one moment."""

    at: float
    segments: tuple[Segment, ...]
    omitted_segments: int = 0
    """Segments beyond the limit of one message; ``omitted_bytes`` is their size."""
    omitted_bytes: int = 0
