"""Advice: only what applies, with the difference of two footprints, in order of its price."""

from __future__ import annotations

from dataclasses import replace

from vramtop.errors import UsageError
from vramtop.estimator.advise import advise, changes
from vramtop.estimator.checks import validate
from vramtop.estimator.result import COMPONENTS, Footprint
from vramtop.estimator.workload import Loop, Lora, Model, Parallel, Workload

MODEL = Model(
    "llama",
    {
        "model_type": "llama",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 4096,
    },
)
BASE = Workload(MODEL, batch=4, sequence=2048)


class Table:
    """1000 bytes, less what ``saves`` says of what is different."""

    def __init__(self, saves):
        self.saves = saves

    def __call__(self, workload):
        size = 1000 - sum(
            saved
            for field, (value, saved) in self.saves.items()
            if getattr(workload, field) == value
        )
        outer = self

        class One:
            def at(self, batch):
                outer.asked = workload
                return Footprint(
                    "closed-form", dict.fromkeys(COMPONENTS, 0), (), size, size, size, "step"
                )

            def process_bytes(self, batch):
                return size

        return One()


def test_saves_are_differences_and_what_costs_least_comes_first():
    table = Table(
        {
            "optimizer": ("adamw-8bit", 300),
            "checkpointing": ("full", 250),
            "optimizer_implementation": ("fused", 100),
            "chunked_loss": (True, 120),
            "batch": (2, 9),
        }
    )
    found = [(one.options, one.saves_bytes) for one in advise(BASE, table)]
    assert found == [
        ({"--chunked-loss": ""}, 120),
        ({"--fused": ""}, 100),
        ({"--checkpointing": "full"}, 250),
        ({"--optimizer": "adamw-8bit"}, 300),
    ]  # the batch saves less than 1 %


def test_what_would_cost_more_is_not_advised():
    assert advise(BASE, Table({"checkpointing": ("full", -50)})) == ()


def test_expandable_segments_only_as_replayed():
    table = Table({})
    assert advise(BASE, table) == ()
    assert advise(BASE, table, expandable_saves_bytes=9) == ()
    (one,) = advise(BASE, table, expandable_saves_bytes=50)
    assert one.saves_bytes == 50


def test_a_change_that_the_predictor_refuses_is_left_out():
    table = Table({"checkpointing": ("full", 250)})

    def picky(workload):
        if workload.checkpointing == "full":
            raise UsageError("no")
        return table(workload)

    assert advise(BASE, picky) == ()


def offered(workload):
    return {option for change in changes(workload) for option in change.options}


def test_nothing_is_offered_that_is_there_already():
    have = replace(
        BASE,
        batch=1,
        checkpointing="full",
        optimizer="adamw-8bit",
        chunked_loss=True,
        stack="hf-trainer",
        lora=Lora(8),
        precision="nf4",
        double_quantization=True,
    )
    assert offered(have) == {"--seq"}


def test_what_applies_to_each():
    assert {"--attention"} <= offered(replace(BASE, attention="eager"))
    assert "--attention" not in offered(BASE)
    assert "--zero" in offered(replace(BASE, parallel=Parallel(gpus=4)))
    assert "--zero" not in offered(BASE)
    assert "--sp" in offered(replace(BASE, parallel=Parallel(gpus=2, tensor=2)))
    inference = replace(BASE, mode="inference", new_tokens=64)
    assert offered(inference) == {"--precision", "--kv-dtype", "--batch"}


def test_every_change_is_a_workload_that_can_be():
    for workload in (
        BASE,
        replace(BASE, precision="fp32", attention="eager"),
        replace(BASE, lora=Lora(8)),
        replace(BASE, mode="inference", new_tokens=64),
        replace(BASE, parallel=Parallel(gpus=8, tensor=2)),
        replace(BASE, parallel=Parallel(gpus=8, pipeline=2)),
    ):
        for change in changes(workload):
            validate(change.workload)
            assert change.workload != workload
            assert change.cost


def test_the_effective_batch_stays_when_the_micro_batch_shrinks():
    for batch in (2, 3, 4, 6, 7):
        for change in changes(replace(BASE, batch=batch)):
            if "--batch" in change.options:
                smaller = change.workload
                assert smaller.batch * smaller.grad_accumulation == batch


def batches(workload, most=None):
    found = changes(workload, most)
    return [change.workload.batch for change in found if "--batch" in change.options]


def test_the_most_of_a_batch_that_fits():
    assert batches(replace(BASE, batch=12)) == [6]
    assert batches(replace(BASE, batch=9), most=6) == [3]
    assert batches(replace(BASE, batch=12), most=5) == [4]
    assert batches(replace(BASE, batch=7), most=6) == [1]
    inference = replace(BASE, mode="inference", batch=9)
    assert batches(inference) == [4]
    assert batches(inference, most=7) == [7]


def test_the_trainers_loop_is_no_advice_where_it_is_another_arithmetic():
    def words(workload):
        return " ".join(change.words for change in changes(workload))

    assert "dropping the outputs" in words(BASE)
    assert "dropping the outputs" not in words(replace(BASE, precision="nf4", lora=Lora(16)))
    dropped = replace(BASE, loop=Loop(keeps_outputs=False))
    assert "dropping the outputs" not in words(dropped), "they are let go already"
