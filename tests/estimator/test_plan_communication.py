"""Communication by formula, against figures counted by hand."""

from __future__ import annotations

import pytest

from vramtop.estimator.plan import communication as wire

PART = wire.Part(
    weight_bytes=1000,
    trained_weight_bytes=800,
    gradient_bytes=400,
    hidden_bytes=64,
    layers=3,
)


def sent(traffic: tuple[wire.Traffic, ...]) -> dict[str, int]:
    assert all(item.source for item in traffic)
    return {item.purpose: item.sent_bytes for item in traffic}


def simulate_ring_all_gather(size: int, gpus: int) -> list[int]:
    """Bytes that each GPU sends when pieces go around a ring until all have all."""
    piece = size // gpus
    have = [{rank} for rank in range(gpus)]
    out = [0] * gpus
    passing = list(range(gpus))
    while any(len(pieces) < gpus for pieces in have):
        for rank in range(gpus):
            have[(rank + 1) % gpus].add(passing[rank])
            out[rank] += piece
        passing = [passing[rank - 1] for rank in range(gpus)]
    return out


@pytest.mark.parametrize("gpus", [2, 3, 4, 8])
def test_a_ring_sends_so_much(gpus: int) -> None:
    size = 240
    assert set(simulate_ring_all_gather(size, gpus)) == {wire.gather_bytes(size, gpus)}
    assert wire.all_reduce_bytes(size, gpus) == 2 * wire.gather_bytes(size, gpus)


def test_ddp_reduces_once_a_step() -> None:
    traffic = wire.data_parallel(PART, gpus=4, zero=0, passes=8)
    assert sent(traffic) == {"gradient all-reduce": 600}  # 2 · 3/4 · 400


def test_zero_1_sends_what_ddp_does_where_weights_and_gradients_are_alike() -> None:
    # ZeRO paper 7.1: no more than data parallelism
    part = wire.Part(1000, 1000, 1000, 0, 1)
    ddp = wire.total_bytes(wire.data_parallel(part, gpus=8, zero=0, passes=1))
    for zero in (1, 2):
        assert wire.total_bytes(wire.data_parallel(part, gpus=8, zero=zero, passes=1)) == ddp
    # 7.2: half as much again
    three = wire.total_bytes(wire.data_parallel(part, gpus=8, zero=3, passes=1))
    assert three == 1.5 * ddp


def test_zero_2_reduces_and_zero_3_gathers_every_pass() -> None:
    assert sent(wire.data_parallel(PART, gpus=4, zero=1, passes=5)) == {
        "gradient reduce-scatter": 300,
        "weight all-gather": 600,
    }
    assert sent(wire.data_parallel(PART, gpus=4, zero=2, passes=5)) == {
        "gradient reduce-scatter": 1500,
        "weight all-gather": 600,
    }
    assert sent(wire.data_parallel(PART, gpus=4, zero=3, passes=5)) == {
        "gradient reduce-scatter": 1500,
        "weight all-gather": 7500,  # twice 750 a pass
    }


def test_tensor_parallel() -> None:
    def purposes(*, sequence: bool, recomputed: bool) -> dict[str, int]:
        return sent(
            wire.tensor_parallel(
                PART, gpus=2, passes=2, sequence_parallel=sequence, recomputed=recomputed
            )
        )

    # (4 · 3 layers + 2) all-reduces of 64 B, each sends 64; twice
    assert purposes(sequence=False, recomputed=False) == {"tensor-parallel all-reduce": 1792}
    assert purposes(sequence=False, recomputed=True) == {"tensor-parallel all-reduce": 2560}
    # and two gathers a layer more, each sends 32
    assert purposes(sequence=True, recomputed=False) == {
        "tensor-parallel gather and scatter": 1792 + 2 * 3 * 32 * 2
    }


def test_pipeline() -> None:
    def purposes(stages: int, chunks: int = 1, divided_by: int = 1) -> dict[str, int]:
        return sent(
            wire.pipeline_parallel(
                PART, stages=stages, chunks=chunks, passes=4, divided_by=divided_by
            )
        )

    assert purposes(1) == {}
    assert purposes(2) == {"pipeline point to point": 256}
    assert purposes(4) == {"pipeline point to point": 512}
    assert purposes(4, chunks=2, divided_by=2) == {"pipeline point to point": 512}
    assert wire.bubble(stages=4, chunks=1, passes=6) == 0.5
    assert wire.bubble(stages=4, chunks=3, passes=1) == 1


def test_one_gpu_sends_nothing() -> None:
    assert wire.data_parallel(PART, gpus=1, zero=0, passes=3) == ()
    assert (
        wire.tensor_parallel(PART, gpus=1, passes=1, sequence_parallel=False, recomputed=True) == ()
    )
