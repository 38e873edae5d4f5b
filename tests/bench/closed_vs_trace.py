"""How far formulas are from the trace: ``python -m tests.bench closed_vs_trace [--only NAME]``.

Both answer the same workloads; compared is the peak of allocated bytes, and of each phase.
"""

import argparse
from dataclasses import replace

from tests.bench.machine import print_table

GIB = 2**30


def workloads():
    """(name, workload), all with a sequence of 2048 unless the model is shorter."""
    from vramtop.estimator.catalog import find_model
    from vramtop.estimator.workload import Lora, Parallel, Workload

    llama = Workload(find_model("llama-2-7b"), batch=4, sequence=2048)
    qwen = Workload(find_model("qwen2.5-1.5b"), batch=4, sequence=2048)
    gpt2 = Workload(find_model("gpt2"), batch=4, sequence=1024, precision="fp32")
    bert = Workload(find_model("bert-large-uncased"), batch=4, sequence=512, precision="fp32")
    t5 = Workload(find_model("t5-base"), batch=4, sequence=512, precision="fp32")
    yield "llama, b=1", replace(llama, batch=1)
    yield "llama, b=4", llama
    yield "llama, b=4, Trainer", replace(llama, stack="hf-trainer")
    yield "llama, 4 x b=1", replace(llama, batch=1, grad_accumulation=4)
    for zero in range(4):
        parallel = Parallel(gpus=8, zero=zero)
        yield f"llama, ZeRO-{zero}", replace(llama, parallel=parallel)
    sharded = replace(llama, parallel=Parallel(gpus=8, zero=3))
    yield "llama, ZeRO-3, amp-bf16", replace(sharded, precision="amp-bf16")
    yield "llama, ZeRO-3, checkp.", replace(sharded, checkpointing="full", grad_accumulation=2)
    yield "llama, TP 4", replace(llama, parallel=Parallel(gpus=4, tensor=4))
    pipeline = Parallel(gpus=4, pipeline=4, micro_batches=8)
    yield "llama, PP 4", replace(llama, batch=1, parallel=pipeline)
    yield "llama, inference", replace(llama, mode="inference")
    yield "llama, 64 new tokens", replace(llama, mode="inference", new_tokens=64)
    yield "llama, LoRA", replace(llama, lora=Lora(16))
    nf4 = replace(llama, precision="nf4", lora=Lora(16, ("all-linear",)))
    yield "llama, nf4, LoRA, checkp.", replace(nf4, checkpointing="full")
    for name, base in (("nf4", nf4), ("int8", replace(nf4, precision="int8"))):
        trainer = replace(base, batch=1, stack="hf-trainer")
        yield f"llama, {name}, LoRA, b=1", replace(base, batch=1)
        yield f"llama, {name}, Trainer, b=1", trainer
        yield f"llama, {name}, Trainer, checkp.", replace(trainer, checkpointing="full")
    yield "qwen, b=1", replace(qwen, batch=1)
    yield "qwen, b=4", qwen
    yield "qwen, amp-bf16", replace(qwen, precision="amp-bf16")
    yield "qwen, LoRA, 4 x b=1", replace(qwen, batch=1, lora=Lora(8), grad_accumulation=4)
    yield "qwen, 64 new tokens", replace(qwen, mode="inference", new_tokens=64)
    for name, base in (("gpt2", gpt2), ("bert-large", bert), ("t5-base", t5)):
        yield f"{name}, fp32", base
        yield f"{name}, amp-bf16", replace(base, precision="amp-bf16")
        yield f"{name}, ZeRO-2", replace(base, parallel=Parallel(gpus=8, zero=2))


def rows(only):
    from vramtop import predict
    from vramtop.errors import UsageError

    for name, workload in workloads():
        if only not in name:
            continue
        try:
            traced, formed = (
                predict.predictor(workload, method).at(workload.batch)
                for method in ("trace", "closed-form")
            )
        except UsageError as error:
            yield (name, str(error)[:60], *[""] * 6)
            continue
        of_closed = {phase.name: phase.peak_bytes for phase in formed.phases}
        off = {
            phase.name: of_closed[phase.name] / phase.peak_bytes - 1
            for phase in traced.phases
            if phase.name in of_closed and phase.name not in ("load", "zero_grad")
        }
        worst = max(off, key=lambda phase: abs(off[phase]))
        yield (
            name,
            f"{traced.peak_allocated_bytes / GIB:.2f} GiB",
            f"{formed.peak_allocated_bytes / GIB:.2f} GiB",
            f"{formed.peak_allocated_bytes / traced.peak_allocated_bytes - 1:+.2%}",
            traced.peak_phase,
            formed.peak_phase,
            f"{worst} {off[worst]:+.1%}",
            f"{formed.peak_reserved_bytes / traced.peak_reserved_bytes - 1:+.1%}",
        )


def main(options=()):
    parser = argparse.ArgumentParser(prog="python -m tests.bench closed_vs_trace")
    parser.add_argument("--only", default="", metavar="NAME", help="workloads so named")
    only = parser.parse_args(list(options)).only
    print_table(
        "The closed form against the trace: peak of allocated bytes",
        ("workload", "trace", "closed form", "off", "in", "in", "worst phase", "reserved"),
        list(rows(only)),
    )
