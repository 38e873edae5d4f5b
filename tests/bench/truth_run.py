"""One configuration run for real on ``cuda``: ``python -m tests.bench.truth_run`` (JSON on stdin).

A plain loop as users write it; nothing of the estimator's is used. Prints one JSON line: what
torch.cuda counted after loading and in each phase, and what NVML says of the process.
"""

import json
import os
import sys

STEPS = int(os.environ.get("TRUTH_STEPS", "3"))


def build(asked):
    import torch
    import transformers

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(asked["precision"], torch.float32)
    arguments = dict(asked["config"])
    config = transformers.AutoConfig.for_model(arguments.pop("model_type"), **arguments)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation=asked.get("attention", "sdpa")
        )
    if asked.get("lora"):
        import peft

        lora = peft.LoraConfig(
            r=asked["lora"], target_modules=asked.get("lora_targets"), task_type="CAUSAL_LM"
        )
        model = peft.get_peft_model(model, lora)
    model.to_empty(device="cuda")
    model.tie_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.01)
        for buffer in model.buffers():
            buffer.fill_(0)
    if asked.get("checkpointing") == "full":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if asked.get("lora"):
            model.enable_input_require_grads()
    return model


def optimizer_of(asked, parameters):
    import torch

    made = {
        "adamw": torch.optim.AdamW,
        "sgd": torch.optim.SGD,
        "sgd-momentum": lambda p, **more: torch.optim.SGD(p, momentum=0.9, **more),
        "adagrad": torch.optim.Adagrad,
        "rmsprop": torch.optim.RMSprop,
    }[asked.get("optimizer", "adamw")]
    return made(parameters, fused=True) if asked.get("fused") else made(parameters)


class Meter:
    """Peaks of allocated and reserved, phase by phase."""

    def __init__(self):
        self.phases = {}

    def end(self, name):
        import torch

        peak = torch.cuda.max_memory_allocated()
        after = torch.cuda.memory_allocated()
        before = self.phases.get(name, {"peak_bytes": 0})
        self.phases[name] = {
            "peak_bytes": max(peak, before["peak_bytes"]),
            "after_bytes": after,
        }
        torch.cuda.reset_peak_memory_stats()


def train(asked, model, meter):
    import torch

    optimizer = optimizer_of(asked, [p for p in model.parameters() if p.requires_grad])
    amp = asked["precision"].removeprefix("amp-") if "amp" in asked["precision"] else None
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(amp)
    shape = (asked["batch"], asked["sequence"])
    model.train()
    outputs = None
    for _ in range(STEPS):
        ids = torch.ones(shape, dtype=torch.long, device="cuda")
        labels = torch.ones(shape, dtype=torch.long, device="cuda")
        with torch.autocast("cuda", dtype=dtype, enabled=dtype is not None):
            outputs = model(input_ids=ids, labels=labels)
        meter.end("forward")
        outputs.loss.backward()
        meter.end("backward")
        optimizer.step()
        meter.end("step")
        optimizer.zero_grad()
        meter.end("zero_grad")
    return outputs


def infer(asked, model, meter):
    import torch

    model.eval()
    shape = (asked["batch"], asked["sequence"])
    ids = torch.ones(shape, dtype=torch.long, device="cuda")
    new = asked["new_tokens"]
    with torch.no_grad():
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            min_new_tokens=new,
            do_sample=False,
        )
    meter.end("generate")


def process_bytes():
    """NVML's figure for this process, None without NVML."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if process.pid == os.getpid():
                return process.usedGpuMemory
    except Exception:
        return None
    return None


def main():
    asked = json.loads(sys.stdin.readline())
    if asked.get("double"):
        from tests.fakecuda.double import install

        install(16 << 30)
    import torch

    reserved = 0
    meter = Meter()
    try:
        model = build(asked)
        meter.end("load")
        kept = (infer if asked.get("mode") == "inference" else train)(asked, model, meter)
        reserved = torch.cuda.max_memory_reserved()
        died = None
        del kept
    except torch.OutOfMemoryError as error:
        died = str(error).splitlines()[0]
    print(
        json.dumps(
            {
                "asked": asked,
                "died": died,
                "phases": meter.phases,
                "peak_allocated_bytes": max(
                    (p["peak_bytes"] for p in meter.phases.values()), default=0
                ),
                "peak_reserved_bytes": reserved or torch.cuda.memory_reserved(),
                "process_bytes": None if asked.get("double") else process_bytes(),
                "device": None if asked.get("double") else torch.cuda.get_device_name(0),
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
