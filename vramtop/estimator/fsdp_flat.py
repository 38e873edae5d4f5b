"""Torch's FSDP1 over a one-GPU timeline: every unit is one flat parameter.

The order is that of torch/distributed/fsdp/_runtime_utils.py and _flat_param.py (the same from
torch 2.1 to 2.13). What differs from FSDP2: the gathered buffer is the parameters, without a
copy; it is released while the device still uses it (``Tensor.record_stream``), and the rate limiter
waits for it (``limit_all_gathers``, the default). A unit's gradient is that of its flat parameter,
put together from those of its tensors, with zeros for frozen ones; under ``no_sync`` it stays whole
until the last micro-batch. Gathered is in the parameters' own dtype.
"""

from __future__ import annotations

from .fsdp import GATHERING, REDUCING, Group, Sharding, sharded
from .stacks import FACTS
from .timeline import BlockInfo, Timeline
from .workload import Workload


def fully_shard_flat(timeline: Timeline, workload: Workload) -> Timeline:
    """The timeline of one rank; every repeated layer is a unit, and the rest is the root's."""
    return _FlatSharding(timeline, workload).run()


class _FlatSharding(Sharding):
    """One pass over a timeline."""

    NAME = "FSDP1"

    def __init__(self, timeline: Timeline, workload: Workload) -> None:
        facts = FACTS[workload.stack]
        self._trained = {b.module for b in timeline.blocks if b.category == "gradient"}
        self._apart = facts.adapters_are_units and workload.lora is not None
        self._frozen: dict[Group, list[int]] = {}
        """Bytes of each tensor of a unit that gets no gradient."""
        self._leaf: Group | None = None
        """The unit inside a layer that is at work."""
        self._whole: dict[Group, int] = {}
        """Gradients of units that are not reduced before the last micro-batch."""
        self._later = facts.whole_gradients_while_accumulating and workload.grad_accumulation > 1
        self._backwards = 0
        """Of the step."""
        super().__init__(timeline, workload, gathers_whole_dtype=True)
        for block in timeline.blocks:
            if sharded(block) and block.module not in self._trained:
                self._frozen.setdefault(self._group_of(block), []).append(block.base_bytes)

    def _key(self, block: BlockInfo) -> int | str | None:
        if self._apart and block.layer is not None and block.module in self._trained:
            return block.module.rpartition(".")[0]
        return block.layer

    def _allocate(self, number: int) -> None:
        if not (self._phase == "load" and sharded(self._old.blocks[number])):
            super()._allocate(number)

    def _begin_phase(self, phase: str) -> None:
        if phase == "step":
            self._backwards = 0
            for group in [*self._whole]:
                self._share(group)
        super()._begin_phase(phase)

    def _end_phase(self) -> None:
        if self._phase == "load":
            for group in [*self._groups.values()][1:]:
                self._wrap(group)
            self._wrap(self._root)
        self._leave_leaf()
        super()._end_phase()
        self._backwards += self._phase == "backward"

    def _wrap(self, group: Group) -> None:
        """A unit is loaded, made flat and cut (FlatParamHandle.__init__, shard)."""
        if not group.sizes:
            return
        loaded = [self._add(group, size, "parameter", "load") for size in group.sizes]
        flat = self._add(group, group.gathered_bytes, "temporary", "flatten")
        self._add(group, self._part(group), "parameter", "shard")
        for number in (flat, *loaded):
            self._new.release(number)

    def _visit_for(self, block: BlockInfo) -> None:
        leaf = None
        if self._apart and block.layer is not None:
            named = block.category == "gradient"
            path = block.module.rpartition(".")[0] if named else block.module
            leaf = self._groups.get(path)
        if leaf is not self._leaf:
            self._leave_leaf()
        super()._visit_for(block)
        if leaf is not None and self._phase in ("forward", "backward"):
            self._fetch(leaf)
            self._leaf = leaf

    def _leave_leaf(self) -> None:
        if self._leaf is not None:
            self._after_backward(self._leaf)
            self._leaf = None

    def _before_forward(self, group: Group) -> None:
        self._fetch(group)

    def _fetch(self, group: Group) -> None:
        if not group.parameters and group.sizes:
            size = group.gathered_bytes
            made = self._add(group, size, "parameter", "all_gather", GATHERING, awaited=True)
            group.parameters = [made]

    def _after_backward(self, group: Group) -> None:
        if group.pending:
            self._reduce(group)
        else:
            self._reshard(group)

    def _reduce(self, group: Group) -> None:
        zeros = [
            self._add(group, size, "temporary", "zeros") for size in self._frozen.get(group, ())
        ]
        later = self._later and self._backwards == 0
        category = "gradient" if later else "temporary"
        flat = self._add(group, group.gathered_bytes, category, "flat_gradient")
        for number in (*zeros, *reversed(group.pending.values())):
            self._new.release(number)
        group.reduced |= group.pending.keys()
        group.pending.clear()
        self._reshard(group)
        if later:
            self._whole[group] = flat
        else:
            self._share(group, flat)

    def _share(self, group: Group, *flat: int) -> None:
        """Reduce a whole gradient to its shard."""
        shard = self._add(group, self._part(group), "gradient", "shard", REDUCING)
        if group.shard is None:
            group.shard = shard
        else:
            self._new.release(shard)
        whole = (self._whole.pop(group),) if group in self._whole else ()
        for number in (*flat, *whole):
            self._new.release(number)

    def _part(self, group: Group) -> int:
        return -(-group.gathered_bytes // self._shards)
