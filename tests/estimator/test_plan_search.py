"""The search over a model whose memory is a formula on one line, tried out exhaustively."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest

from vramtop.errors import UsageError
from vramtop.estimator.plan import Configuration, Numbers, Plan, Wish, recheck, search, strengths
from vramtop.estimator.plan.effort import Effort
from vramtop.estimator.plan.pareto import dominates
from vramtop.estimator.plan.search import costs
from vramtop.estimator.result import COMPONENTS, Footprint, PhaseUse
from vramtop.estimator.workload import Device, Lora, Model, Parallel, Workload

MIB = 1 << 20
WIDTH = {"fp32": 4, "amp-bf16": 4, "bf16": 2, "int8": 1, "nf4": 0.5625}
STATES = {"adamw": 2.0, "adamw-8bit": 0.5}
SAVED = {"none": 8.0, "selective": 6.0, "full": 1.0}
WEIGHTS = 100 * MIB


@dataclass
class Line:
    """100 Mi weights; 8 MiB a sample; everything divided by TP · PP, states by ZeRO."""

    workload: Workload
    more: int = 0

    def process_bytes(self, batch: int) -> int:
        weights, gradients, states = self._parts()
        parallel = self.workload.parallel
        saved = SAVED[self.workload.checkpointing] * MIB * batch / parallel.tensor
        return int(weights + gradients + states + saved) + self.more

    def _parts(self) -> tuple[float, float, float]:
        work = self.workload
        parallel = work.parallel
        part = WEIGHTS / (parallel.tensor * parallel.pipeline)
        weights = part * WIDTH[work.precision]
        trained = part / 100 if work.lora else part
        width = 4 if work.precision in {"fp32", "amp-bf16"} else 2
        gradients = trained * width
        states = gradients * STATES[work.optimizer]
        return (
            weights / (parallel.data if parallel.zero >= 3 else 1),
            gradients / (parallel.data if parallel.zero >= 2 else 1),
            states / (parallel.data if parallel.zero >= 1 else 1),
        )

    def at(self, batch: int) -> Footprint:
        total = self.process_bytes(batch)
        weights, gradients, states = (int(part) for part in self._parts())
        return Footprint(
            method="closed-form",
            components=dict.fromkeys(COMPONENTS, 0),
            phases=(
                PhaseUse("load", weights, weights),
                PhaseUse("backward", weights + states + gradients, total),
                PhaseUse("zero_grad", weights + states, total),
            ),
            peak_allocated_bytes=total,
            peak_reserved_bytes=total,
            process_bytes=total,
            peak_phase="backward",
        )


def predictor_of(workload: Workload) -> Line:
    if workload.parallel.tensor > 4:
        raise UsageError("4 heads")
    return Line(workload)


def numbers() -> Numbers:
    return Numbers(
        hidden=64,
        layers=8,
        effort=Effort(layer_weights=90 * MIB, head_weights=10 * MIB, attention_width=512),
        predictor_of=predictor_of,
    )


def wish(gpus: int = 1, batch: int = 16, held: frozenset[str] = frozenset()) -> Wish:
    base = Workload(
        Model("toy", {}),
        sequence=128,
        precision="amp-bf16",
        device=Device("card", 4096 * MIB),
        parallel=Parallel(gpus=gpus),
    )
    return Wish(base, batch, held)


def plan(asked: Wish, limit_mib: int) -> Plan:
    return search(asked, limit_bytes=limit_mib * MIB, predictor_of=predictor_of, numbers=numbers())


def effective(one: Configuration) -> int:
    return one.workload.batch * one.passes * one.workload.parallel.data


@pytest.mark.parametrize(("gpus", "limit"), [(1, 1700), (1, 1200), (4, 700), (8, 500)])
def test_what_is_shown_fits_and_nothing_beats_it(gpus: int, limit: int) -> None:
    found = plan(wish(gpus), limit)
    assert found.configurations
    for one in found.configurations:
        assert one.process_bytes <= limit * MIB
        assert effective(one) == 16
        assert one.workload.parallel.gpus == gpus
        assert Line(one.workload).process_bytes(one.workload.batch) == one.process_bytes
    for one, other in itertools.permutations(found.configurations, 2):
        assert not dominates(costs(other), costs(one))


def test_unchanged_arithmetic_comes_first_and_words_say_what_changes() -> None:
    found = plan(wish(), 1700)
    severities = [one.arithmetic.severity for one in found.configurations]
    assert severities == sorted(severities)
    assert severities[0] == 0
    for one in found.configurations:
        same = (
            one.workload.precision == "amp-bf16"
            and one.workload.optimizer == "adamw"
            and one.workload.lora is None
        )
        assert same == (not one.arithmetic.departures)


def test_the_largest_micro_batch_that_fits() -> None:
    # 16 B · 100 Mi = 1600 MiB, and 8 a sample: 12 samples fit 1700, of the divisors of 16 it is 8
    found = plan(wish(held=frozenset({"checkpointing", "precision", "optimizer", "lora"})), 1700)
    (only,) = found.configurations
    assert (only.workload.batch, only.passes) == (8, 2)
    assert only.workload.grad_accumulation == 2
    assert only.recomputation == 0
    assert only.workload.optimizer_implementation == "fused"


def test_held_fields_stay() -> None:
    held = frozenset({"precision", "optimizer", "lora", "zero", "checkpointing"})
    asked = wish(4, held=held)
    base = replace(asked.workload, checkpointing="full", parallel=Parallel(gpus=4, zero=2))
    found = plan(replace(asked, workload=base), 2000)
    for one in found.configurations:
        assert one.workload.parallel.zero == 2
        assert one.workload.checkpointing == "full"
        assert one.arithmetic.severity == 0


def test_a_held_micro_batch() -> None:
    asked = wish(held=frozenset({"batch"}))
    found = plan(replace(asked, workload=asked.workload.with_batch(4)), 1700)
    assert {one.workload.batch for one in found.configurations} == {4}


def test_lora_that_is_wanted_is_no_departure() -> None:
    asked = wish()
    base = replace(asked.workload, precision="bf16", lora=Lora(8))
    found = plan(replace(asked, workload=base), 400)
    assert found.configurations[0].arithmetic.departures == ()
    assert all(one.workload.lora == Lora(8) for one in found.configurations)


def test_where_nothing_fits_the_nearest_is_told() -> None:
    found = plan(wish(held=frozenset({"precision", "optimizer", "lora"})), 100)
    assert not found.configurations
    assert found.nearest is not None
    # full checkpointing, one sample: 1600 + 1 MiB
    assert found.nearest.process_bytes == 1601 * MIB


def test_where_nothing_fits_as_wanted_the_least_of_that_is_told() -> None:
    found = plan(wish(), 500)
    assert found.configurations
    assert all(one.arithmetic.departures for one in found.configurations)
    assert found.nearest is not None
    assert found.nearest.process_bytes == 1601 * MIB
    assert plan(wish(), 1700).nearest is None


def test_a_pipeline_is_kept_full() -> None:
    held = frozenset({"pipeline", "tensor", "precision", "optimizer", "lora"})
    asked = wish(4, batch=64, held=held)
    base = replace(asked.workload, parallel=Parallel(gpus=4, pipeline=4))
    for one in plan(replace(asked, workload=base), 4000).configurations:
        assert one.passes >= 16
        assert one.bubble == 3 / one.passes
        assert one.workload.parallel.micro_batches == one.passes


def test_a_batch_that_cannot_be_divided() -> None:
    asked = wish(4, batch=3, held=frozenset({"tensor", "pipeline"}))
    with pytest.raises(UsageError, match="cannot be divided"):
        plan(asked, 4000)


LAYOUT = frozenset({"precision", "optimizer", "lora", "tensor", "pipeline", "zero", "batch"})


@pytest.mark.parametrize(
    ("zero", "sent_mib"),
    [
        (0, 600),  # 2 · 3/4 · 400 MiB of fp32 gradients, once
        (1, 300 + 300),  # gradients reduced, fp32 weights gathered
        (2, 300 * 4 + 300),  # reduced in each of the 4 passes
        (3, (2 * 150 + 300) * 4),  # bf16 weights gathered twice a pass
    ],
)
def test_what_a_layout_sends(zero: int, sent_mib: int) -> None:
    asked = wish(4, held=LAYOUT)
    base = replace(asked.workload, parallel=Parallel(gpus=4, zero=zero))
    found = plan(replace(asked, workload=base), 4000)
    assert {one.passes for one in found.configurations} == {4}
    assert {one.sent_bytes for one in found.configurations} == {sent_mib * MIB}


@pytest.mark.parametrize("checkpointing", ["none", "full", "selective"])
def test_what_checkpointing_makes_again(checkpointing: str) -> None:
    asked = wish(held=LAYOUT | {"checkpointing"})
    base = replace(asked.workload, checkpointing=checkpointing)
    (only,) = plan(replace(asked, workload=base), 4000).configurations
    layers, head, attention = 2 * 90 * MIB, 2 * 10 * MIB, 4 * 128 * 512
    step = 3 * (layers + head + attention)
    extra = {"none": 0, "full": layers + attention, "selective": attention}[checkpointing]
    assert only.recomputation == pytest.approx(extra / step)
    lora = replace(base, lora=Lora(8), precision="bf16")
    (frozen,) = plan(replace(asked, workload=lora), 4000).configurations
    assert frozen.recomputation == pytest.approx(extra / (step * 2 / 3))


def test_recheck_takes_a_smaller_micro_batch_or_leaves_out() -> None:
    found = plan(wish(held=frozenset({"checkpointing", "precision", "optimizer", "lora"})), 1700)

    def closer(more: int) -> Plan:
        return recheck(found, lambda work: Line(work, more * MIB), numbers())

    (only,) = closer(50).configurations
    assert (only.workload.batch, only.passes) == (4, 4)
    assert closer(200).configurations == ()
    assert "left out" in closer(200).notes[0]


def test_recheck_looks_at_others_in_the_place_of_what_does_not_fit() -> None:
    held = frozenset({"precision", "optimizer", "lora"})
    found = plan(wish(held=held), 1700)
    assert found.configurations[0].workload.checkpointing == "none"
    asked = []

    def closer(workload: Workload) -> Line:
        asked.append(workload.checkpointing)
        return Line(workload, 900 * MIB if workload.checkpointing == "none" else 0)

    again = recheck(found, closer, numbers())
    assert again.configurations
    assert {one.workload.checkpointing for one in again.configurations} <= set(asked) - {"none"}
    assert all(one.process_bytes <= 1700 * MIB for one in again.configurations)
    assert "left out" in again.notes[0]


def test_recheck_keeps_what_cannot_be_looked_at() -> None:
    found = plan(wish(), 1700)

    def refuse(workload: Workload) -> Line:
        raise UsageError("no torch")

    again = recheck(found, refuse, numbers())
    assert set(map(id, again.configurations)) == set(map(id, found.configurations))
    assert again.notes[0].endswith("could not be looked at closely: no torch")


def test_strengths_name_the_best() -> None:
    found = plan(wish(4), 1000)
    group = [one for one in found.configurations if not one.arithmetic.departures]
    assert len(group) > 1
    least = min(group, key=lambda one: one.process_bytes)
    assert "least memory" in strengths(least, found.configurations)
