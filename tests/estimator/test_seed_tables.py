"""The texts' tables, literally: what they print and what their formulas give, by hand."""

from __future__ import annotations

import pytest

from vramtop.estimator.result import COMPONENTS, Footprint, PhaseUse
from vramtop.estimator.seed import recipes, tables
from vramtop.estimator.seed.values import Table
from vramtop.estimator.workload import Workload

G = 1_000_000_000

EXPECTED = {
    # name: (label, printed, by the formula)
    "budget": [
        ("weights, fp32", 28 * G, 28 * G),
        ("weights, fp16", 14 * G, 14 * G),
        ("gradients, fp16", 14 * G, 14 * G),
        ("Adam states", 56 * G, 56 * G),
        ("fp32 master weights", 28 * G, 28 * G),
        ("states with master weights", 84 * G, 84 * G),
        ("activations, batch 4 × 512", 8.4 * G, 6_442_450_944),
    ],
    "inference": [
        ("fp32: model", 28 * G, 28 * G),
        ("fp32: peak, batch 1, 512 tokens", 29.1 * G, 28_536_870_912),
        ("fp32: peak, batch 8, 2048 tokens", 44.5 * G, 45_179_869_184),
        ("fp16: model", 14 * G, 14 * G),
        ("fp16: peak, batch 1, 512 tokens", 14.5 * G, 14_268_435_456),
        ("fp16: peak, batch 8, 2048 tokens", 22.2 * G, 22_589_934_592),
        ("bf16: model", 14 * G, 14 * G),
        ("bf16: peak, batch 1, 512 tokens", 14.5 * G, 14_268_435_456),
        ("bf16: peak, batch 8, 2048 tokens", 22.2 * G, 22_589_934_592),
        ("int8: model", 7 * G, 7 * G),
        ("int8: peak, batch 1, 512 tokens", 7.5 * G, 7_134_217_728),
        ("int8: peak, batch 8, 2048 tokens", 15.2 * G, 11_294_967_296),
        ("int4: model", 3.5 * G, 3.5 * G),
        ("int4: peak, batch 1, 512 tokens", 4 * G, 3_567_108_864),
        ("int4: peak, batch 8, 2048 tokens", 11.7 * G, 5_647_483_648),
    ],
    "kv-cache": [
        ("one token", 500_000, 524_288),
        ("batch 8, 2048 tokens", 8.2 * G, 8_589_934_592),
    ],
    "waterfall": [
        ("model loaded", 14 * G, 14 * G),
        ("after forward", 22.4 * G, 20_442_450_944),
        ("after backward", 28 * G, 28 * G),
        ("after optimizer step", 84 * G, 84 * G),
        ("after zero_grad", 70 * G, 70 * G),
        ("peak of backward", None, None),
        ("peak of the optimizer step", None, None),
    ],
    "max-batch": [
        *((f"7B fp16 + Adam, {gb} GB", 0, 0) for gb in (24, 40, 48, 80)),
        *((f"13B fp16 + Adam, {gb} GB", 0, 0) for gb in (24, 40, 48, 80)),
        ("7B int8 + LoRA, 24 GB", 8, 19),
        ("7B int8 + LoRA, 40 GB", 32, 39),
        ("7B int8 + LoRA, 48 GB", 48, 49),
        ("7B int8 + LoRA, 80 GB", 96, 89),
    ],
    "strategies": [
        ("data parallel, 2 GPUs", 104 * G, 208 * G),
        ("data parallel, 4 GPUs", 104 * G, 208 * G),
        ("pipeline parallel, 2 GPUs", 52 * G, 104 * G),
        ("pipeline parallel, 4 GPUs", 26 * G, 52 * G),
        ("fsdp zero3, 2 GPUs", 52 * G, 104 * G),
        ("fsdp zero3, 4 GPUs", 26 * G, 52 * G),
        ("data parallel, 4 GPUs: sent a step", None, None),
        ("pipeline parallel, 4 GPUs: sent a step", None, None),
        ("fsdp zero3, 4 GPUs: sent a step", None, None),
    ],
    "will-it-fit": [
        # 12 · 4096 · 2048 · 32 = 3,221,225,472 values
        ("training, fp32, Adam", None, 28 * G + 28 * G + 84 * G + 12_884_901_888),
        ("training, fp16, Adam", None, 14 * G + 14 * G + 84 * G + 6_442_450_944),
        ("training, bf16, Adam", None, 14 * G + 14 * G + 84 * G + 6_442_450_944),
        ("inference, fp32", None, 30_147_483_648),
        ("inference, fp16", None, 15_073_741_824),
        ("inference, bf16", None, 15_073_741_824),
        ("inference, int8", None, 7_536_870_912),
        ("inference, int4", None, 3_768_435_456),
    ],
    "rules": [
        ("overhead over allocated, least", 1.1, None),
        ("overhead over allocated, most", 1.2, None),
        ("activations without / with checkpointing", 5, None),
        ("time of a step with checkpointing", 1.3, None),
        ("LoRA: optimizer states", 1 * G, 840_000_000),
        ("fixed part, 7B", 80 * G, 112 * G),
        ("activations of a sample of 2048 tokens", None, 6_442_450_944),
        ("passes for a batch of 64 with micro-batches of 4", 16, 16),
    ],
    "formulas": [
        ("a model of 10⁹ parameters in fp32", 4 * G, 4 * G),
        ("optimizer: (4+4+4) · parameters", None, 84 * G),
        ("gradients: as the weights", None, 14 * G),
        ("activations: 2·L·h·s·a·λ/t", None, 4_294_967_296),
        ("(M+O+G+A)/(TP·PP) + overhead, 2 × 2", None, 29_073_741_824),
        ("inference: weights + activations", None, 18_294_967_296),
    ],
    "categories": [
        (name, None, None)
        for name in (
            "parameter",
            "optimizer_state",
            "activation",
            "gradient",
            "input",
            "temporary",
            "autograd_detail",
            "unknown",
        )
    ],
}


def nothing(workload: Workload) -> None:
    """Truth is not known."""


def by_name(truth: object) -> dict[str, Table]:
    return {table.name: table for table in tables(truth)}


@pytest.mark.parametrize("name", EXPECTED)
def test_printed_and_computed(name: str) -> None:
    found = [(one.label, one.printed, one.seed) for one in by_name(nothing)[name].figures]
    assert [row[0] for row in found] == [row[0] for row in EXPECTED[name]]
    for (label, *values), (_, *expected) in zip(found, EXPECTED[name], strict=True):
        for value, wanted in zip(values, expected, strict=True):
            assert value == (None if wanted is None else pytest.approx(wanted, rel=1e-12)), label


def test_no_table_is_missing_and_each_says_what_is_wrong() -> None:
    found = by_name(nothing)
    assert set(found) == set(EXPECTED)
    assert all(table.wrong and table.about for table in found.values())


def made_up(workload: Workload) -> Footprint:
    """10 GB of weights, 20 of states, 5 of gradients, 1 a sample of activations; 2 outside."""
    components = dict.fromkeys(COMPONENTS, 0) | {
        "parameter": 10 * G,
        "optimizer_state": 20 * G,
        "kv_cache": 3 * G,
    }
    saved = workload.batch * G
    phases = (
        PhaseUse("load", 10 * G, 10 * G),
        PhaseUse("forward", 30 * G + saved, 30 * G + saved),
        PhaseUse("backward", 35 * G, 36 * G + saved),
        PhaseUse("step", 35 * G, 45 * G),
        PhaseUse("zero_grad", 30 * G, 35 * G),
    )
    peak = max(45 * G, 36 * G + saved)
    return Footprint("closed-form", components, phases, peak, peak + G, peak + 2 * G, "step")


def test_the_true_column_of_the_waterfall_is_the_first_step() -> None:
    assert [one.true for one in by_name(made_up)["waterfall"].figures] == [
        10 * G,
        14 * G,  # no states yet
        15 * G,
        35 * G,
        30 * G,
        40 * G,
        45 * G,
    ]


def test_true_largest_batch_by_bisection() -> None:
    true = [one.true for one in by_name(made_up)["max-batch"].figures]
    # 47 GB at least; from batch 9 on 38 GB and one a sample. RTX 4090 and A100 40GB have less than
    # 47, an L40S has 46,068 MiB = 48.3 GB, an H100 81,559 MiB = 85.5 GB
    assert true == [0, 0, 10, 47] * 3


def test_true_figures_elsewhere() -> None:
    found = by_name(made_up)
    budget = [one.true for one in found["budget"].figures]
    assert budget == [10 * G, 10 * G, 5 * G, 20 * G, 0, 20 * G, 4 * G]
    rules = {one.label: one.true for one in found["rules"].figures}
    assert rules["overhead over allocated, least"] == pytest.approx(47 / 45)
    assert rules["activations of a sample of 2048 tokens"] == G
    sent = {one.label: one.true for one in found["strategies"].figures}
    # 2 · 3/4 · 2 B · 13,015,864,320
    assert sent["data parallel, 4 GPUs: sent a step"] == 39_047_592_960
    assert sent["fsdp zero3, 4 GPUs: sent a step"] == 58_571_389_440


def test_recipes() -> None:
    tree, roadmap = recipes(made_up)
    assert len(tree.steps) == 4
    assert len(roadmap.steps) == 5
    assert all(step.before_bytes == 47 * G for step in roadmap.steps)
    assert all(step.before_bytes is None for step in recipes(nothing)[0].steps)
