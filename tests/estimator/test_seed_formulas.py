"""The seed texts' formulas against figures worked out by hand from the texts."""

from __future__ import annotations

import pytest

from vramtop.errors import UsageError
from vramtop.estimator.seed import activations, kv_cache, max_batch, optimizer, strategies, weights
from vramtop.estimator.seed.predictor import predictor
from vramtop.estimator.seed.values import SEVEN_B, THIRTEEN_B
from vramtop.estimator.seed.will_it_fit import will_it_fit
from vramtop.estimator.workload import Lora, Model, Parallel, Workload

TINY = Model(
    "tiny",
    {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2},
    parameters=1_000_000,
)


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("fp32", 28e9), ("fp16", 14e9), ("bf16", 14e9), ("int8", 7e9), ("int4", 3.5e9)],
)
def test_weights_of_a_7b(precision: str, expected: float) -> None:
    assert weights.weight_bytes(7e9, precision) == expected
    assert weights.gradient_bytes(7e9, precision) == expected


def test_states() -> None:
    assert optimizer.adam_moment_bytes(7e9) == 56e9
    assert optimizer.adam_with_master_bytes(7e9) == 84e9
    assert optimizer.state_bytes(7e9, "sgd") == 28e9
    assert optimizer.state_bytes(7e9, "lion") == 0
    assert optimizer.text2_gigabytes(1024**3) == 12


def test_activations() -> None:
    # 12 · 4096 · 512 · 32 · 2 B; four of them are 6.0 GiB
    assert activations.sample_bytes(SEVEN_B, 512, 2) == 1_610_612_736
    assert 4 * activations.sample_bytes(SEVEN_B, 512, 2) == 6 * 1024**3
    # 2 · 32 · 4096 · 512 · 32 = 2^(1+5+12+9+5) = 2^32
    assert activations.text2_gigabytes(SEVEN_B, 512) == 4
    assert activations.text2_gigabytes(SEVEN_B, 512, tensor_parallel=4) == 1
    assert activations.checkpointed_bytes(100) == (10, 20)


def test_kv_cache() -> None:
    assert kv_cache.token_bytes(32, 32, 128, 2) == 524_288
    assert kv_cache.cache_bytes(SEVEN_B, 8, 2048, 2) == 8 * 1024**3
    assert kv_cache.cache_bytes(SEVEN_B, 8, 2048, 0.5) == 2 * 1024**3


def test_will_it_fit() -> None:
    fit = will_it_fit(SEVEN_B)
    assert fit.total_bytes == 14e9 + 84e9 + 14e9 + 6 * 1024**3
    assert not fit.fits(24)
    assert not fit.fits(80)
    inference = will_it_fit(SEVEN_B, training=False)
    assert inference.total_bytes == 14e9 + 1024**3
    assert inference.fits(24)
    assert inference.activation_bytes == inference.gradient_bytes == 0
    assert will_it_fit(SEVEN_B, optimizer="sgd").optimizer_bytes == 28e9


def test_max_batch() -> None:
    assert [max_batch.max_batch(SEVEN_B, 512, gb) for gb in (24, 40, 48, 80)] == [0, 0, 0, 0]
    assert [max_batch.max_batch(THIRTEEN_B, 512, gb) for gb in (24, 40, 48, 80)] == [0, 0, 0, 0]
    # (120 - 112) GB over 1.61 GB a sample
    assert max_batch.max_batch(SEVEN_B, 512, 120) == 4
    # 7 + 0.07 · 13 = 7.91 GB fixed, 0.805 GB a sample
    assert max_batch.max_batch(SEVEN_B, 512, 24, "int8", lora=True) == 19
    assert max_batch.effective_batch(4, 16) == 64


def test_strategies() -> None:
    assert strategies.per_gpu_bytes(13e9, 2, "data_parallel") == 208e9
    assert strategies.per_gpu_bytes(13e9, 2, "pipeline_parallel") == 104e9
    assert strategies.per_gpu_bytes(13e9, 4, "fsdp_zero3") == 52e9
    assert strategies.text2_per_gpu_bytes(10, 20, 30, 40, tensor=2, pipeline=5) == 10
    assert (
        strategies.text2_per_gpu_bytes(10, 20, 30, 40, tensor=2, pipeline=5, overhead_bytes=3) == 13
    )


def test_predictor_is_will_it_fit() -> None:
    footprint = predictor(Workload(TINY, batch=4, sequence=16, precision="fp16")).at(4)
    # 2 + 2 + 12 B a parameter, and 12 · 256 · 16 · 2 · 2 · 4 of activations
    assert footprint.process_bytes == 16_000_000 + 786_432
    assert footprint.components["optimizer_state"] == 12_000_000
    assert sum(footprint.components.values()) == footprint.process_bytes
    assert [phase.after_bytes for phase in footprint.phases] == [
        2_000_000,
        14_786_432,
        16_000_000,
        16_000_000,
        14_000_000,
    ]
    assert max(phase.peak_bytes for phase in footprint.phases) == footprint.peak_allocated_bytes


def test_predictor_of_inference() -> None:
    workload = Workload(TINY, mode="inference", sequence=15, new_tokens=1, precision="fp16")
    footprint = predictor(workload).at(3)
    # 2 · 2 layers · 2 heads · 128 · 2 B · 16 tokens · 3
    assert footprint.components["kv_cache"] == 98_304
    assert footprint.process_bytes == 2_098_304


def test_predictor_of_lora_checkpointing_and_gpus() -> None:
    base = Workload(TINY, sequence=16, precision="fp16")
    lora = predictor(Workload(TINY, sequence=16, precision="fp16", lora=Lora(8))).at(1)
    assert lora.components["optimizer_state"] == 120_000
    assert lora.components["gradient"] == 20_000
    checkpointed = predictor(Workload(TINY, sequence=16, precision="fp16", checkpointing="full"))
    ratio = (
        predictor(base).at(1).components["activation"] / checkpointed.at(1).components["activation"]
    )
    assert ratio == pytest.approx(5, rel=1e-4)
    zero = predictor(
        Workload(TINY, sequence=16, precision="fp16", parallel=Parallel(gpus=4, zero=3))
    )
    assert zero.at(1).components["optimizer_state"] == 3_000_000
    assert any("fifth" in note for note in checkpointed.at(1).notes)


@pytest.mark.parametrize(
    "model", [Model("mine", entry="train:build"), Model("odd", {"model_type": "x"}, parameters=1)]
)
def test_models_without_the_numbers(model: Model) -> None:
    with pytest.raises(UsageError, match="--method trace"):
        predictor(Workload(model))
