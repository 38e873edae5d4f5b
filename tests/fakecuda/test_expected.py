"""A live training on the double beside its prediction, block for block as CUDA's allocator rounds.

The double has neither fused attention nor cuBLAS, so both sides go eager and no workspace counts.
"""

from dataclasses import replace

import pytest

from tests.fakecuda.build import why_not
from tests.stack.watched import ROOT, watched
from vramtop.core.breakdowns import detail_of
from vramtop.estimator.live.job import rebuild
from vramtop.estimator.live.steps import steady_step
from vramtop.predict import silent, traced

# The double needs a compiler and a CPU build of torch; why_not says which is missing.
pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.mark.parametrize("options", [("llama",), ("gpt2", "--checkpointing")])
def test_a_step_on_cuda_holds_what_is_predicted(options, tmp_path_factory):
    training = [str(ROOT / "tests/fakecuda/expected_training.py"), *options]
    training += ["--device", "cuda", "--attention", "eager"]
    fleet, process = watched(training, tmp_path_factory.mktemp("v"), device="cuda:0")
    told = rebuild(process, "cuda:0", fleet.snapshot.devices).workload
    assert told.backend == "cuda"
    workload = replace(told, attention="eager")
    timeline = traced(workload, silent, None).timeline(workload.batch)
    step = steady_step(timeline, workload.batch, "cuda")
    detail = detail_of(process, "cuda:0")
    actual = {phase.name: phase for phase in detail.phases}
    for phase in step.phases:
        for category in ("parameter", "gradient", "optimizer_state"):
            held = actual[phase.name].after.bytes_of(category)
            assert phase.after[category] == held, (phase.name, category)
    forward = next(phase for phase in step.phases if phase.name == "forward")
    activations = actual["forward"].after.activation_bytes
    assert forward.after["activation"] == pytest.approx(activations, rel=0.02)
    assert step.peak_bytes == pytest.approx(detail.peak.total_bytes, rel=0.03)
    assert step.peak_phase == detail.peak.phase
