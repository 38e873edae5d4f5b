"""Torch's FSDP2 over a one-GPU timeline: shards, gathered layers, reduced gradients.

The order is that of torch/distributed/fsdp/_fully_shard (torch 2.13): ``fully_shard`` on every
repeated layer and on the root, which keeps the rest and is not resharded after forward. ZeRO-3 is
``reshard_after_forward=True``, ZeRO-2 False; hybrid sharding has fewer shards. Gathered buffers
and shards of gradients are allocated on streams of their own (foreach_all_gather, foreach_reduce),
so their memory serves nothing else. ``fsdp_flat`` has what FSDP1 does differently.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Final

from .rewrite import Rewriter, blocks_of_steps, divided
from .stacks import mixed_by_gathering
from .timeline import BlockInfo, Timeline
from .workload import Workload

GATHERING: Final = 1
"""Stream of the all-gathers (all_gather_copy_in_stream)."""
REDUCING: Final = 2
"""Stream of the reduce-scatters."""
_CAST: Final = "aten::_to_copy"
_FORWARDS: Final = ("forward", "generate")
_UNSHARDED: Final = ("absmax", "code", "nested_absmax", "nested_code", "offset")
"""Quantisation constants, which bitsandbytes keeps beside the weight (``quant_state``) and not as
parameters: every rank has them whole."""


@dataclass(slots=True, eq=False)
class Group:
    """Parameters that are gathered together: a layer's, or the root's."""

    layer: int | None
    sizes: list[int] = field(default_factory=list)
    """Bytes of each whole parameter in the dtype in which it is gathered."""
    parameters: list[int] = field(default_factory=list)
    """Numbers of the blocks of whole parameters while they are there."""
    buffer: int | None = None
    """Of the all-gather's output, from which whole parameters are copied, if fetched ahead."""
    pending: dict[int, int] = field(default_factory=dict)
    """Gradients not yet reduced: number in the old timeline to that of the whole one here."""
    reduced: set[int] = field(default_factory=set)
    """Gradients, by their number in the old timeline, of which there is a shard."""
    shard: int | None = None
    """Number of the block of all those shards."""

    @property
    def gathered_bytes(self) -> int:
        """Of all its whole parameters."""
        return sum(self.sizes)


def fully_shard(timeline: Timeline, workload: Workload) -> Timeline:
    """The timeline of one rank.

    Under autocast parameters are gathered in its dtype and gradients reduced in fp32; else all of
    it is done in the parameters' own dtype. Where the stack has no autocast but FSDP's mixed
    precision, the timeline is one in the gathered dtype, and what is kept is fp32.
    """
    return Sharding(timeline, workload).run()


class Sharding:
    """One pass over a timeline."""

    NAME = "FSDP2"

    def __init__(
        self, timeline: Timeline, workload: Workload, *, gathers_whole_dtype: bool = False
    ) -> None:
        self._old = timeline
        self._shards = workload.parallel.shards
        self._reshards = workload.parallel.zero == 3
        self._kept_twice = mixed_by_gathering(workload)
        casts = not (gathers_whole_dtype or self._kept_twice)
        self._halved = workload.casts_weights and casts
        self._root = Group(None)
        self._groups: dict[int | str | None, Group] = {None: self._root}
        for block in timeline.blocks:
            if sharded(block):
                self._group_of(block).sizes.append(self._computed(block))
        self._casts = self._cast_weights() if self._halved else frozenset()
        in_step = blocks_of_steps(timeline)
        self._new = Rewriter(
            divided(self._kept_block(block), self._shards)
            if number in in_step or sharded(block)
            else block
            for number, block in enumerate(timeline.blocks)
        )
        self._kept: set[int] = set()
        """What a later micro-batch has made and adds to a shard: not released by autograd."""
        self._phase = ""
        self._at: Group | None = None
        """The layer that is at work."""
        self._held: int | None = None
        """The buffer that a forward keeps until the next layer is gathered."""
        self._reducing: int | None = None
        """The buffer of the last layer's gradients, kept until the next is reduced."""
        self._ran: list[Group] = []
        """Layers in the order of their forwards."""

    def run(self) -> Timeline:
        """The new timeline."""
        marks = list(self._old.marks)
        for position in range(len(self._old.events) + 1):
            while marks and marks[0].event == position:
                self._end_phase()
                self._new.mark(marks[0])
                self._begin_phase(marks.pop(0).phase)
            if position < len(self._old.events):
                if self._old.event_modules:
                    self._new.module = self._old.event_modules[position]
                event = self._old.events[position]
                if abs(event) - 1 in self._casts:
                    continue
                if event > 0:
                    self._allocate(event - 1)
                else:
                    self._release(-event - 1)
        self._end_phase()
        stage = "ZeRO-3" if self._reshards else "ZeRO-2"
        stage += f", {self.NAME} {'' if self._reshards else 'not '}resharding"
        return self._new.finish(
            self._old, f"composed for {self._shards} shards ({stage} after forward)"
        )

    def _group_of(self, block: BlockInfo) -> Group:
        return self._groups.setdefault(self._key(block), Group(block.layer))

    def _key(self, block: BlockInfo) -> int | str | None:
        """The unit to which a parameter or its gradient belongs; None is the root."""
        return block.layer

    def _kept_block(self, block: BlockInfo) -> BlockInfo:
        """A parameter, gradient or state in the dtype in which its shards are kept."""
        return replace(block, base_bytes=block.base_bytes * 2) if self._kept_twice else block

    def _computed(self, block: BlockInfo) -> int:
        """Bytes of a parameter or gradient in the dtype of the computation."""
        return block.base_bytes // 2 if self._halved else block.base_bytes

    def _cast_weights(self) -> frozenset[int]:
        """Autocast's copies of weights: what is gathered has its dtype already."""
        sizes: dict[str, set[int]] = defaultdict(set)
        for block in self._old.blocks:
            if block.category == "parameter":
                sizes[block.module.rpartition(".")[0]].add(self._computed(block))
        return frozenset(
            number
            for number, block in enumerate(self._old.blocks)
            if block.operation == _CAST
            and block.category == "activation"
            and not block.slope_bytes
            and block.base_bytes in sizes.get(block.module, ())
        )

    def _allocate(self, number: int) -> None:
        block = self._old.blocks[number]
        if block.category not in ("workspace", "input"):
            self._visit_for(block)
        if self._phase != "backward":
            self._new.allocate(number)
        elif block.category == "gradient":
            whole = replace(block, base_bytes=self._computed(block))
            self._owner(block).pending[number] = self._new.add(whole)
        else:
            self._new.allocate(number)
            self._keep_later(number)

    def _keep_later(self, number: int) -> None:
        """Take what a later micro-batch adds to a gradient for that gradient, not yet reduced."""
        block, group = self._old.blocks[number], self._owner(self._old.blocks[number])
        if block.slope_bytes or not group.reduced:
            return
        for gradient in group.reduced - group.pending.keys():
            made = self._old.blocks[gradient]
            same = made.module.rpartition(".")[0] == block.module
            if same and self._computed(made) == block.base_bytes:
                group.pending[gradient] = number
                self._kept.add(number)
                return

    def _release(self, number: int) -> None:
        block = self._old.blocks[number]
        if number in self._kept:
            self._kept.remove(number)
        elif block.category != "gradient":
            self._new.release(number)
        else:
            self._release_gradient(self._owner(block), number)

    def _release_gradient(self, group: Group, number: int) -> None:
        whole = group.pending.pop(number, None)
        if whole is not None:
            self._new.release(whole)
        group.reduced.discard(number)
        if not group.reduced and group.shard is not None:
            self._new.release(group.shard)
            group.shard = None

    def _owner(self, block: BlockInfo) -> Group:
        return self._groups.get(self._key(block), self._root)

    def _begin_phase(self, phase: str) -> None:
        self._phase = phase
        if phase in _FORWARDS:
            self._before_forward(self._root)
        elif phase == "backward" and self._ran:
            self._fetch(self._ran[-1])

    def _end_phase(self) -> None:
        self._visit(None)
        if self._held is not None:
            self._new.release(self._held)
            self._held = None
        if self._phase != "backward":
            return
        for group in self._groups.values():
            if group.pending and group is not self._root:
                self._reduce(group)
            if group.buffer is not None:
                self._new.release(group.buffer)
                group.buffer = None
        self._after_backward(self._root)
        if self._reducing is not None:
            self._new.release(self._reducing)
            self._reducing = None
        self._ran.clear()

    def _visit_for(self, block: BlockInfo) -> None:
        """The work goes on where a block is made."""
        self._visit(None if block.layer is None else self._groups.get(block.layer))

    def _visit(self, group: Group | None) -> None:
        """The work goes on in a layer, or outside of all."""
        if group is self._at:
            return
        last, self._at = self._at, group
        if self._phase in _FORWARDS:
            if last is not None:
                self._after_forward(last)
            if group is not None:
                self._before_forward(group)
        elif self._phase == "backward":
            if last is not None:
                self._after_backward(last)
            if group is not None:
                self._before_backward(group)

    def _before_forward(self, group: Group) -> None:
        if group.parameters or not group.sizes:
            return
        buffer = self._gather(group)
        self._unshard(group)
        if self._held is not None:
            self._new.release(self._held)
        self._held = buffer

    def _after_forward(self, group: Group) -> None:
        self._ran.append(group)
        if self._reshards:
            self._reshard(group)

    def _before_backward(self, group: Group) -> None:
        self._fetch(group)
        if group.buffer is not None:
            self._unshard(group)
            self._new.release(group.buffer)
            group.buffer = None
        if group in self._ran:
            del self._ran[self._ran.index(group) :]
        if self._ran:
            self._fetch(self._ran[-1])

    def _fetch(self, group: Group) -> None:
        if not group.parameters and group.buffer is None and group.sizes:
            group.buffer = self._gather(group)

    def _gather(self, group: Group) -> int:
        """The all-gather's output; a shard in another dtype is cast for it."""
        size = group.gathered_bytes
        if not self._halved and not self._kept_twice:
            return self._add(group, size, "temporary", "all_gather", GATHERING)
        cast = self._add(group, size // self._shards, "temporary", "cast", GATHERING)
        buffer = self._add(group, size, "temporary", "all_gather", GATHERING)
        self._new.release(cast)
        return buffer

    def _unshard(self, group: Group) -> None:
        group.parameters = [self._add(group, size, "parameter", "unshard") for size in group.sizes]

    def _after_backward(self, group: Group) -> None:
        self._reshard(group)
        if group.pending:
            self._reduce(group)

    def _reshard(self, group: Group) -> None:
        for number in group.parameters:
            self._new.release(number)
        group.parameters = []

    def _reduce(self, group: Group) -> None:
        if self._reducing is not None:
            self._new.release(self._reducing)
        blocks = (self._old.blocks[number] for number in group.pending)
        size = sum(self._kept_block(block).base_bytes for block in blocks)
        self._reducing = self._add(group, size, "temporary", "reduce_scatter")
        # The last of the module's parameters, whose gradient comes first, is still referred to.
        last, *others = group.pending.values()
        for whole in others:
            self._new.release(whole)
        shard = self._add(group, -(-size // self._shards), "gradient", "shard", REDUCING)
        self._new.release(last)
        if group.shard is None:
            group.shard = shard
        else:
            self._new.release(shard)
        group.reduced |= group.pending.keys()
        group.pending.clear()

    def _add(
        self,
        group: Group,
        size: int,
        category: str,
        operation: str,
        stream: int = 0,
        awaited: bool = False,
    ) -> int:
        module, layer, operation = self._new.module, group.layer, "fsdp::" + operation
        made = BlockInfo(size, 0, category, module, layer, operation, stream, awaited)
        return self._new.add(made)


def sharded(block: BlockInfo) -> bool:
    """Whether it is a parameter, of which every rank has its part."""
    return block.category == "parameter" and block.module.rpartition(".")[2] not in _UNSHARDED
