"""Effective batches by the largest micro-batch that fits."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from vramtop.estimator.accumulation import accumulated, accumulations, effective_batch
from vramtop.estimator.catalog import find_model
from vramtop.estimator.workload import Parallel, Workload

BASE = Workload(find_model("gpt2"), batch=4)


def test_the_issues_own_words():
    assert str(accumulated(64, 8)) == "effective batch 64 = 8 × 8 accumulation"
    assert str(accumulated(64, 15)) == "effective batch 64 = 8 × 8 accumulation"
    assert str(accumulated(64, 4, gpus=4)) == "effective batch 64 = 4 × 4 accumulation × 4 GPUs"


@given(st.integers(1, 600), st.integers(1, 300), st.integers(1, 8))
def test_no_larger_micro_batch_would_do(effective, most, gpus):
    way = accumulated(effective, most, gpus)
    if way is None:
        assert effective % gpus
        return
    assert way.micro * way.passes * gpus == effective
    assert way.micro <= most
    larger = range(way.micro + 1, most + 1)
    assert not any(effective // gpus % micro == 0 for micro in larger if micro <= effective)


def test_the_users_own_comes_first_then_round_ones_that_need_accumulation():
    workload = dataclasses.replace(BASE, batch=48, grad_accumulation=2)
    assert [way.effective for way in accumulations(workload, 40)] == [96, 64, 128, 256, 512]
    assert [way.effective for way in accumulations(BASE, 40)] == [64, 128, 256, 512]


def test_none_in_a_pipeline_without_training_or_where_nothing_fits():
    pipeline = dataclasses.replace(BASE, parallel=Parallel(gpus=4, pipeline=4))
    assert accumulations(pipeline, 8) == ()
    assert accumulations(dataclasses.replace(BASE, mode="inference"), 8) == ()
    assert accumulations(BASE, 0) == ()


def test_a_step_sees_every_gpus_and_every_micro_batchs_samples():
    spread = Parallel(gpus=8, tensor=2)
    assert effective_batch(dataclasses.replace(BASE, grad_accumulation=3, parallel=spread)) == 48
    pipeline = Parallel(gpus=4, pipeline=2, micro_batches=6)
    assert effective_batch(dataclasses.replace(BASE, parallel=pipeline)) == 48
