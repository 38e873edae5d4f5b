"""A training of two layers, spread over GPUs, counted by hand; totals against the ZeRO paper."""

from __future__ import annotations

import pytest

from vramtop.estimator.sharding import (
    apply_sequence_parallel,
    pipeline_in_flight,
    shard,
    with_buckets,
)
from vramtop.estimator.timeline import BlockInfo, Mark, Timeline
from vramtop.estimator.workload import Model, Parallel, Workload

EMBEDDING, LAYER = 100, 40
"""Bytes of parameters: of the root, and of each of the two layers."""


def workload(precision: str = "bf16", **parallel: object) -> Workload:
    return Workload(Model("small"), precision=precision, parallel=Parallel(**parallel))


class Script:
    """A timeline written line by line."""

    def __init__(self) -> None:
        self.blocks: list[BlockInfo] = []
        self.events: list[int] = []
        self.marks: list[Mark] = []
        self.names: dict[str, int] = {}

    def mark(self, phase: str, step: int = 1) -> None:
        self.marks.append(Mark(len(self.events), phase, step))

    def new(
        self,
        name: str,
        base: int,
        category: str,
        layer: int | None = None,
        *,
        slope: int = 0,
        module: str = "",
        operation: str = "",
    ) -> None:
        self.blocks.append(BlockInfo(base, slope, category, module or name, layer, operation))
        self.events.append(len(self.blocks))
        self.names[name] = len(self.blocks)

    def end(self, *names: str) -> None:
        self.events += [-self.names.pop(name) for name in names]

    def timeline(self) -> Timeline:
        return Timeline(tuple(self.blocks), tuple(self.events), tuple(self.marks))


def training(steps: int = 2, micro_batches: int = 1) -> Timeline:
    """Adam on an embedding of 100 bytes and two layers of 40, each with activations of 7."""
    script = Script()
    script.mark("load", 0)
    sizes = {"e": (EMBEDDING, None), "l0": (LAYER, 0), "l1": (LAYER, 1)}
    for name, (size, layer) in sizes.items():
        script.new(name, size, "parameter", layer)
    for step in range(1, steps + 1):
        for micro_batch in range(micro_batches):
            script.mark("other", step)
            script.new("in", 3, "input")
            script.mark("forward", step)
            script.new("hidden", 5, "activation")
            for layer in (0, 1):
                script.new(f"a{layer}", 7, "activation", layer)
            script.new("logits", 11, "activation")
            script.mark("backward", step)
            for name, (size, layer) in reversed(sizes.items()):
                new = f"g{name}" if micro_batch == 0 else "again"
                category = "gradient" if micro_batch == 0 else "autograd_detail"
                owner = f"{name}.weight" if micro_batch == 0 else name
                script.new(new, size, category, layer, module=owner)
                if micro_batch:
                    script.end("again")
                if layer is not None:
                    script.end(f"a{layer}")
            script.end("logits", "hidden", "in")
        script.mark("step", step)
        if step == 1:
            for name, (size, layer) in sizes.items():
                script.new(f"m{name}", size, "optimizer_state", layer)
                script.new(f"v{name}", size, "optimizer_state", layer)
        script.new("tmp", 180, "temporary")
        script.end("tmp")
        script.mark("zero_grad", step)
        script.end(*(f"g{name}" for name in sizes))
    script.mark("end", steps)
    return script.timeline()


def live(timeline: Timeline, position: int) -> dict[str, int]:
    """Bytes by category after as many events."""
    found: dict[str, int] = {}
    for event in timeline.events[:position]:
        block = timeline.blocks[abs(event) - 1]
        sign = 1 if event > 0 else -1
        found[block.category] = found.get(block.category, 0) + sign * block.size_bytes(0)
    return {category: size for category, size in found.items() if size}


def at(timeline: Timeline, phase: str, step: int = 2) -> dict[str, int]:
    """Bytes by category as a phase begins."""
    mark = next(m for m in timeline.marks if (m.phase, m.step) == (phase, step))
    return live(timeline, mark.event)


def story(timeline: Timeline, phase: str, step: int = 2) -> list[str]:
    """What comes and goes in a phase: "+40 parameter 0"."""
    marks = [*timeline.marks, Mark(len(timeline.events), "", 0)]
    number = next(i for i, m in enumerate(marks) if (m.phase, m.step) == (phase, step))
    return [
        f"{'+' if event > 0 else '-'}{block.size_bytes(0)} "
        f"{block.operation.removeprefix('fsdp::') or block.category}"
        for event in timeline.events[marks[number].event : marks[number + 1].event]
        for block in [timeline.blocks[abs(event) - 1]]
    ]


def whole(timeline: Timeline) -> None:
    """Every block comes once, in order, and goes at most once."""
    made = [event for event in timeline.events if event > 0]
    assert made == list(range(1, len(timeline.blocks) + 1))
    gone = [-event for event in timeline.events if event < 0]
    assert len(gone) == len(set(gone))
    for position, event in enumerate(timeline.events):
        if event < 0:
            assert -event in timeline.events[:position]


PARAMETERS = EMBEDDING + 2 * LAYER


def test_one_gpu_has_nothing_to_share() -> None:
    assert shard(training(), workload()) == training()
    assert shard(training(), workload(gpus=4, tensor=4)) == training()


@pytest.mark.parametrize(
    ("stage", "parameters", "gradients", "states"), [(1, 1, 1, 4), (2, 4, 4, 4), (3, 4, 4, 4)]
)
def test_model_states_are_those_of_the_zero_paper(
    stage: int, parameters: int, gradients: int, states: int
) -> None:
    """P_os, P_os+g and P_os+g+p of section 5, with FSDP's stage 2, which keeps shards only."""
    done = shard(training(), workload(gpus=4, zero=stage))
    whole(done)
    found = at(done, "step")
    assert found["parameter"] == PARAMETERS // parameters
    assert found["optimizer_state"] == 2 * PARAMETERS // states
    buckets = PARAMETERS if stage == 1 else 0  # DDP's copy
    assert found["gradient"] == PARAMETERS // gradients + buckets
    assert set(found) == {"parameter", "optimizer_state", "gradient"}
    assert "+45 temporary" in story(done, "step")  # what the step needs for a while
    assert at(done, "end") == {
        "parameter": PARAMETERS // parameters,
        "optimizer_state": 2 * PARAMETERS // states,
    } | ({"gradient": buckets} if buckets else {})


def test_ddp_keeps_a_copy_of_all_gradients() -> None:
    done = shard(training(), workload(gpus=4))
    whole(done)
    assert at(done, "forward")["gradient"] == PARAMETERS
    assert at(done, "step")["gradient"] == 2 * PARAMETERS
    assert [mark.phase for mark in done.marks] == [mark.phase for mark in training().marks]
    assert "ddp bucket" in {block.operation for block in done.blocks}


def test_buckets_close_with_the_gradient_that_fills_them() -> None:
    script = Script()
    script.mark("load", 0)
    script.mark("forward")
    script.mark("backward")
    for number, mebibytes in enumerate([0.5, 0.75, 20, 4, 3, 30, 1]):
        script.new(f"g{number}", int(mebibytes * 2**20), "gradient")
    script.mark("forward", 2)
    done = with_buckets(script.timeline())
    buckets = [b.base_bytes / 2**20 for b in done.blocks if b.operation == "ddp bucket"]
    # All in one until the second forward.
    assert buckets == [59.25, 1.25, 27, 30, 1]
    assert story(done, "forward", 2)[0] == f"-{int(59.25 * 2**20)} ddp bucket"


def test_zero_3_gathers_layer_by_layer() -> None:
    done = shard(training(), workload(gpus=4, zero=3))
    whole(done)
    assert story(done, "forward") == [
        "+100 all_gather",  # the root's, kept until the next layer is gathered
        "+100 unshard",
        "+5 activation",
        "+40 all_gather",
        "+40 unshard",
        "-100 all_gather",
        "+7 activation",
        "-40 unshard",
        "+40 all_gather",
        "+40 unshard",
        "-40 all_gather",
        "+7 activation",
        "-40 unshard",
        "+11 activation",
        "-40 all_gather",
    ]
    assert story(done, "backward") == [
        "+40 all_gather",  # the last layer's, ahead
        "+40 unshard",
        "-40 all_gather",
        "+40 all_gather",  # the layer's before it, ahead
        "+40 gradient",
        "-7 activation",
        "-40 unshard",
        "+40 reduce_scatter",
        "+10 shard",
        "-40 gradient",
        "+40 unshard",
        "-40 all_gather",
        "+40 gradient",
        "-7 activation",
        "-40 unshard",
        "-40 reduce_scatter",
        "+40 reduce_scatter",
        "+10 shard",
        "-40 gradient",
        "+100 gradient",
        "-11 activation",
        "-5 activation",
        "-3 input",
        "-100 unshard",
        "-40 reduce_scatter",
        "+100 reduce_scatter",
        "+25 shard",
        "-100 gradient",
        "-100 reduce_scatter",
    ]


def test_zero_2_gathers_in_forward_and_keeps_what_it_has() -> None:
    done = shard(training(), workload(gpus=4, zero=2))
    whole(done)
    # Shards, and all whole parameters besides.
    assert at(done, "backward")["parameter"] == PARAMETERS // 4 + PARAMETERS
    assert not any("all_gather" in line for line in story(done, "backward"))
    assert at(done, "step")["parameter"] == PARAMETERS // 4


def test_hybrid_shards_within_a_node_only() -> None:
    done = shard(training(), workload(gpus=16, zero=3, shard_gpus=2))
    assert at(done, "step")["parameter"] == PARAMETERS // 2
    assert at(done, "end")["optimizer_state"] == PARAMETERS


def test_context_parallel_ranks_take_part_in_sharding() -> None:
    done = shard(training(), workload(gpus=8, context=4, zero=3))
    assert at(done, "step")["parameter"] == -(-EMBEDDING // 8) + 2 * LAYER // 8


def test_later_micro_batches_reduce_whole_gradients_again() -> None:
    done = shard(training(micro_batches=2), workload(gpus=4, zero=3))
    whole(done)
    assert at(done, "step")["gradient"] == PARAMETERS // 4
    second = [m.event for m in done.marks if (m.phase, m.step) == ("backward", 2)][1]
    end = next(m.event for m in done.marks if (m.phase, m.step) == ("step", 2))
    text = [
        f"{'+' if e > 0 else '-'}{b.size_bytes(0)} {b.operation.removeprefix('fsdp::')}"
        for e in done.events[second:end]
        for b in [done.blocks[abs(e) - 1]]
        if b.operation or b.category == "autograd_detail"
    ]
    # What autograd would release at once waits for its layer to be reduced and added up.
    start = text.index("+40 reduce_scatter")
    assert text[start - 2 : start + 4] == [
        "+40 ",
        "-40 unshard",
        "+40 reduce_scatter",
        "+10 shard",
        "-40 ",
        "-10 shard",
    ]
    assert live(done, end)["gradient"] == PARAMETERS // 4


def test_under_autocast_layers_are_gathered_in_its_dtype_and_reduced_in_fp32() -> None:
    script = Script()
    script.mark("load", 0)
    script.new("w", 80, "parameter", 0, module="layer.0.linear.weight")
    script.mark("forward")
    script.new("cast", 40, "activation", 0, module="layer.0.linear", operation="aten::_to_copy")
    script.new("a", 7, "activation", 0, module="layer.0.linear")
    script.end("cast")
    script.mark("backward")
    script.new("g", 80, "gradient", 0, module="layer.0.linear.weight")
    script.end("a")
    script.mark("step")
    done = shard(script.timeline(), workload("amp-bf16", gpus=2, zero=3))
    whole(done)
    assert story(done, "load", 0) == ["+40 parameter"]
    # No cast: what is gathered is in bf16.
    assert story(done, "forward", 1) == [
        "+20 cast",
        "+40 all_gather",
        "-20 cast",
        "+40 unshard",
        "+7 activation",
        "-40 unshard",
        "-40 all_gather",
    ]
    assert story(done, "backward", 1)[5:9] == [
        "+40 gradient",
        "-7 activation",
        "-40 unshard",
        "+80 reduce_scatter",
    ]
    assert at(done, "step", 1)["gradient"] == 40


def test_inference_gathers_too() -> None:
    script = Script()
    script.mark("load", 0)
    script.new("l0", LAYER, "parameter", 0)
    script.mark("forward")
    script.new("a", 7, "activation", 0)
    script.end("a")
    script.mark("end")
    asked = Workload(Model("small"), mode="inference", parallel=Parallel(gpus=4, zero=3))
    done = shard(script.timeline(), asked)
    whole(done)
    assert "+40 unshard" in story(done, "forward", 1)
    assert at(done, "end", 1) == {"parameter": LAYER // 4}


def test_sequence_parallelism_divides_what_tensor_parallelism_leaves_whole() -> None:
    def block(module: str, layer: int | None = 0, category: str = "activation") -> BlockInfo:
        return BlockInfo(8, 80, category, module, layer)

    modules = {
        "model.layers.0.input_layernorm": 4,
        "model.layers.0": 4,
        "model.layers.0.self_attn": 1,
        "model.layers.0.self_attn.q_proj": 1,
        "model.layers.0.mlp.act_fn": 1,
        "model.layers.0.post_attention_layernorm": 4,
        "encoder.layer.0.attention.output.LayerNorm": 4,
    }
    blocks = [block(module) for module in modules]
    blocks += [
        block("model.embed_tokens", None),
        block("model.norm", None),
        block("lm_head", None),
        block("model.layers.0.input_layernorm", category="parameter"),
        BlockInfo(8, 0, "activation", "model.layers.0", 0),
    ]
    timeline = Timeline(tuple(blocks), (), ())
    assert apply_sequence_parallel(timeline, workload(gpus=4, tensor=4)) == timeline
    done = apply_sequence_parallel(timeline, workload(gpus=4, tensor=4, sequence=True))
    assert [80 // b.slope_bytes for b in done.blocks[:-1]] == [*modules.values(), 4, 4, 1, 1]
    assert done.blocks[-1] == blocks[-1]


@pytest.mark.parametrize(
    ("stages", "chunks", "micro_batches", "first", "last"),
    [
        (1, 1, None, 1, 1),
        (4, 1, None, 4, 1),
        (4, 1, 16, 4, 1),
        (4, 1, 2, 2, 1),
        # p · (1 + (p - 1) / (p · v)) = 4 · (1 + 3 / 8); the last stage: 4 + 1 chunks of a half
        (4, 2, 16, 5.5, 2.5),
        (8, 4, 64, 8 * (1 + 7 / 32), 25 / 4),
        (4, 2, 2, 2, 2),
    ],
)
def test_micro_batches_in_flight(
    stages: int, chunks: int, micro_batches: int | None, first: float, last: float
) -> None:
    parallel = Parallel(
        gpus=stages, pipeline=stages, virtual_pipeline=chunks, micro_batches=micro_batches
    )
    assert pipeline_in_flight(parallel) == (first, last)
