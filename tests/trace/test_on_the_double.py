"""The prediction against the same training run for real on the double of a CUDA device.

The run is a user's loop with Hugging Face models, torch.optim and torch.cuda's own counters
(``tests/bench/truth_run``); tensors are ``cuda``, so PyTorch itself takes CUDA's paths. Shared with
the prediction are only the allocator's rules. The double has no cuBLAS, so no workspaces here.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakecuda.build import why_not
from vramtop.estimator.layers import repeat
from vramtop.estimator.pattern import single
from vramtop.estimator.replay import replay
from vramtop.estimator.steady import with_another_step
from vramtop.estimator.workload import AllocatorConfig, Lora, Model, Workload
from vramtop.trace.run import run

# It needs a compiler and a CPU build of torch.
pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
ROOT = Path(__file__).parents[2]
BATCH, SEQUENCE = 4, 128
LLAMA = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 4000,
}
CASES = {
    "fp32": {"precision": "fp32"},
    "bf16": {"precision": "bf16"},
    "autocast": {"precision": "amp-bf16"},
    "checkpointing": {"precision": "fp32", "checkpointing": "full"},
    "fused": {"precision": "bf16", "fused": True},
    "momentum": {"precision": "fp32", "optimizer": "sgd-momentum"},
    "LoRA": {"precision": "bf16", "lora": 8},
}


def measured(case):
    asked = {
        "config": LLAMA,
        "batch": BATCH,
        "sequence": SEQUENCE,
        # On the double torch has no fused kernels for attention.
        "attention": "eager",
        "double": True,
        **case,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.truth_run"],
        input=json.dumps(asked) + "\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def predicted(case):
    workload = Workload(
        Model("a small llama", LLAMA),
        batch=BATCH,
        sequence=SEQUENCE,
        precision=case["precision"],
        attention="eager",
        checkpointing=case.get("checkpointing", "none"),
        optimizer=case.get("optimizer", "adamw"),
        optimizer_implementation="fused" if case.get("fused") else None,
        lora=Lora(case["lora"]) if "lora" in case else None,
    )
    traced = run(workload, lambda *_: None)
    pattern = single(traced.recording, BATCH)
    for stack in traced.stacks:
        pattern = repeat(pattern, stack, traced.irregular)
    timeline = with_another_step(pattern.to_timeline())
    return replay(timeline, BATCH, config=AllocatorConfig(), workspace_bytes=0)


@pytest.mark.parametrize("name", CASES)
def test_every_phase_is_what_torch_counts(name):
    real, ours = measured(CASES[name]), predicted(CASES[name])
    assert real["died"] is None
    # Most agree to the byte. Where a block of more than 1 MiB is taken for a smaller request, its
    # rest counts as allocated, and which block is taken hangs on the order of single releases.
    assert ours.peak_allocated_bytes == pytest.approx(real["peak_allocated_bytes"], rel=0.001)
    assert ours.peak_reserved_bytes == pytest.approx(real["peak_reserved_bytes"], rel=0.02)
    for phase in ours.phases:
        if phase.step == 3 and phase.name in real["phases"]:
            after = real["phases"][phase.name]["after_bytes"]
            assert phase.after_bytes == pytest.approx(after, rel=0.005), phase.name
