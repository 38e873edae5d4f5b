"""The published rows: each has a workload or a reason, units and totals are right."""

import json

import pytest

from vramtop.estimator.workload import Model, Parallel, Workload, from_json, to_json

from . import formulas
from .truth_rows import published


@pytest.fixture(scope="module")
def rows():
    return {row.number: row for row in published()}


def test_nothing_is_dropped_silently(rows):
    assert len(rows) == 253
    assert all((row.workload is None) == bool(row.left_out) for row in rows.values())
    assert sum(row.workload is not None for row in rows.values()) >= 100


def test_workloads_go_through_json(rows):
    for row in rows.values():
        if row.workload is not None:
            assert from_json(json.loads(json.dumps(to_json(row.workload)))) == row.workload


def test_units_and_exact_bytes(rows):
    # "9.69 GB" of LitGPT is 1e9; 14.599 GiB of perf_train_gpu_one was printed as 14949 MiB; the
    # golden value of Megatron has its bytes in the notes.
    assert rows[51].measured_bytes == 9_690_000_000
    assert rows[184].measured_bytes == pytest.approx(14949 << 20, rel=1e-4)
    assert rows[184].context_bytes == 1343 << 20
    assert rows[169].measured_bytes == 60_489_064_448


def test_what_died_has_no_measurement(rows):
    died = [row for row in rows.values() if row.ran_out]
    assert died
    assert all(row.measured_bytes is None for row in died)


def test_deepspeed_counts_twenty_bytes_a_parameter_on_one_gpu():
    tiny = {
        "model_type": "gpt2",
        "n_embd": 8,
        "n_layer": 1,
        "n_head": 2,
        "vocab_size": 16,
        "n_positions": 4,
    }
    # wte 16·8, wpe 4·8, two norms and the last 3·16, attention 8·24+24 and 8·8+8, MLP 8·32+32
    # and 32·8+8; the head is tied.
    parameters = 128 + 32 + 48 + 216 + 72 + 288 + 264
    one = Workload(Model("tiny", tiny))
    assert formulas.deepspeed(one) == 20 * parameters
    three = Workload(Model("tiny", tiny), parallel=Parallel(gpus=4, zero=3))
    assert formulas.deepspeed(three) == 18 * parameters // 4 + 4 * 288
    assert formulas.accelerate(one) == 2 * 4 * parameters
