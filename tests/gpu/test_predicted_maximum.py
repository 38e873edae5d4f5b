"""The explorer's largest micro-batch, run on the card it was predicted for: it runs, 1.1 x dies."""

import dataclasses
import math

import pytest

from tests.bench.record_truth import MODELS, run
from vramtop import predict
from vramtop.estimator.workload import Device, Model, Workload

CASES = [
    ("0.1b", {"precision": "fp32", "sequence": 1024}),
    ("1b", {"precision": "bf16", "sequence": 2048, "checkpointing": "full"}),
    ("7b", {"precision": "bf16", "sequence": 1024, "lora": 16}),
]


def card():
    """The card by what is free of it: other processes' share is none of ours."""
    import torch

    free_bytes, _ = torch.cuda.mem_get_info(0)
    return Device(torch.cuda.get_device_name(0), free_bytes, torch.cuda.get_device_capability(0))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("model", "how"), CASES, ids=[name for name, _ in CASES])
def test_the_predicted_maximum_runs_and_a_tenth_more_dies(model, how):
    from vramtop.estimator.workload import Lora

    options = dict(how)
    rank = options.pop("lora", None)
    workload = Workload(
        Model(model, MODELS[model]),
        lora=Lora(rank) if rank else None,
        device=card(),
        **options,
    )
    most = predict.estimate(workload, "trace").max_micro_batch
    assert most
    asked = {"name": model, "config": MODELS[model], "precision": how["precision"], **how}
    at_most = run({**asked, "batch": most})
    beyond = run({**asked, "batch": math.ceil(1.1 * most)})
    print(dataclasses.replace(workload, batch=most), at_most, beyond)
    assert at_most.get("died") is None, at_most
    assert "failed" not in at_most, at_most
    assert "memory" in (beyond.get("died") or beyond.get("failed") or ""), beyond
