"""torch.profiler: around some steps, and entered between a forward and its backward."""

import parts
import torch
from proof import STEPS, Proof
from torch.profiler import ProfilerActivity, profile, schedule

proof = Proof()
model = parts.Perceptron()
optimizer = torch.optim.AdamW(model.parameters())
calls, seen = {}, set()
settings = {
    "activities": [ProfilerActivity.CPU],
    "profile_memory": True,
    "record_shapes": True,
    "with_stack": True,
}


def ready(profiler):
    for event in profiler.key_averages():
        if event.key.startswith("aten::"):
            count, size = calls.get(event.key, (0, 0))
            calls[event.key] = count + event.count, size + event.self_cpu_memory_usage


def names(profiler):
    # Should that very step be recorded, its operations pass the profiler twice.
    seen.update(e.key for e in profiler.key_averages() if e.key.startswith("aten::"))


def step(between=None):
    loss = parts.loss_of(model, *parts.batch())
    if between is not None:
        between.__enter__()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if between is not None:
        between.__exit__(None, None, None)
        names(between)
    proof.loss(loss)


when = schedule(wait=8, warmup=1, active=3, repeat=4)
with profile(**settings, schedule=when, on_trace_ready=ready) as profiler:
    for _ in range(STEPS // 2):
        step()
        profiler.step()
for number in range(STEPS // 2):
    step(profile(**settings) if number % 5 == 4 else None)
proof.end(model, calls=sorted(calls.items()), seen=sorted(seen))
