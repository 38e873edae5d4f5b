"""FSDP1's units where LoRA's matrices are units of their own, on a timeline counted by hand."""

from vramtop.estimator.sharding import shard
from vramtop.estimator.timeline import BlockInfo, Mark, Timeline
from vramtop.estimator.workload import Lora, Model, Parallel, Workload

FROZEN, ADAPTER = "layers.0.q_proj.base_layer", "layers.0.q_proj.lora_A.default"
ASKED = Workload(
    Model("small"),
    stack="fsdp-qlora",
    lora=Lora(8),
    parallel=Parallel(gpus=2, zero=3),
)


def one_gpu():
    """A frozen matrix of 1000 bytes with a scale of 40, an adapter of 100; outputs of 6 and 4."""
    blocks = (
        BlockInfo(1000, 0, "parameter", f"{FROZEN}.weight", 0),
        BlockInfo(40, 0, "parameter", f"{FROZEN}.absmax", 0),
        BlockInfo(100, 0, "parameter", f"{ADAPTER}.weight", 0),
        BlockInfo(6, 0, "activation", FROZEN, 0),
        BlockInfo(4, 0, "activation", ADAPTER, 0),
        BlockInfo(100, 0, "gradient", f"{ADAPTER}.weight", 0),
    )
    marks = (
        Mark(0, "load", 0),
        Mark(3, "forward", 1),
        Mark(5, "backward", 1),
        Mark(8, "zero_grad", 1),
        Mark(9, "end", 1),
    )
    return Timeline(blocks, (1, 2, 3, 4, 5, 6, -5, -4, -6), marks)


def told(made):
    """Sizes by phase."""
    return {
        mark.phase: [
            made.blocks[abs(event) - 1].base_bytes * (1 if event > 0 else -1)
            for event in made.events[mark.event : after.event]
        ]
        for mark, after in zip(made.marks, made.marks[1:], strict=False)
    }


def test_an_adapter_is_gathered_for_itself_and_its_gradient_has_no_room_for_the_layers():
    made = shard(one_gpu(), ASKED)
    assert told(made) == {
        # The scale is whole on every rank. A unit is loaded, made flat, cut.
        "load": [40, 1000, 1000, 500, -1000, -1000, 100, 100, 50, -100, -100],
        # The layer, and inside it the adapter.
        "forward": [1000, 6, 100, 4, -100, -1000],
        # The adapter's gradient is reduced when the work goes on elsewhere.
        "backward": [1000, 100, 100, -4, -6, 100, -100, -100, 50, -100, -1000],
        "zero_grad": [-50],
    }


def test_without_shards_nothing_is_gathered_and_there_are_no_buckets():
    alone = Workload(Model("small"), stack="fsdp-qlora", parallel=Parallel(gpus=2))
    assert shard(one_gpu(), alone) == one_gpu()
