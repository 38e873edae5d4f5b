"""Two steps traced on fake tensors against the same steps run for real under torch.profiler.

The tracer follows the CPU's paths here (no ``cuda_paths``); what is compared is its books: every
allocation and release that the profiler's memory events tell of. Attention is eager, as the CPU's
fused kernel has buffers inside that CUDA's has not.
"""

import gc

import pytest
import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode

from vramtop.estimator.workload import Model, Workload
from vramtop.trace.build import Built, materialise
from vramtop.trace.recorder import Recorder
from vramtop.trace.steps import run_training

BATCH, SEQUENCE, VOCABULARY = 4, 128, 2000


def llama(**more):
    config = transformers.LlamaConfig(
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=3,
        num_attention_heads=4,
        vocab_size=VOCABULARY,
        attn_implementation="eager",
        **more,
    )
    return transformers.LlamaForCausalLM(config)


def gpt2():
    config = transformers.GPT2Config(
        n_embd=256,
        n_head=4,
        n_layer=3,
        vocab_size=VOCABULARY,
        attn_implementation="eager",
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)


def bert():
    config = transformers.BertConfig(
        hidden_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=1024,
        vocab_size=VOCABULARY,
        attn_implementation="eager",
    )
    return transformers.BertForMaskedLM(config)


def t5():
    config = transformers.T5Config(
        d_model=256,
        d_kv=64,
        d_ff=512,
        num_heads=4,
        num_layers=2,
        vocab_size=VOCABULARY,
        attn_implementation="eager",
    )
    config.decoder_start_token_id = 0
    return transformers.T5ForConditionalGeneration(config)


MODELS = {
    "llama": llama,
    "llama with grouped queries": lambda: llama(num_key_value_heads=2),
    "gpt2": gpt2,
    "bert": bert,
    "t5": t5,
}


def memory_events(model, *, checkpointing):
    """Sizes of the profiler's memory events in order, releases negative."""
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    outputs = None
    gc.collect()
    gc.disable()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(profile_memory=True, activities=activities) as profiler:
        for _ in range(2):
            ids = torch.zeros(BATCH, SEQUENCE, dtype=torch.long)
            labels = torch.zeros(BATCH, SEQUENCE, dtype=torch.long)
            outputs = model(input_ids=ids, labels=labels)
            outputs.loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    gc.enable()
    del outputs
    events = profiler.profiler.kineto_results.events()
    found = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    return [size for _, size in sorted(found, key=lambda pair: pair[0])]


def traced_events(make, *, checkpointing):
    with torch.device("meta"):
        built = Built(make())
    built.model.train()
    workload = Workload(
        Model("the model"),
        batch=BATCH,
        sequence=SEQUENCE,
        precision="fp32",
        checkpointing="full" if checkpointing else "none",
    )
    recorder = Recorder()
    with FakeTensorMode(), recorder:
        recorder.mark("load", 0)
        materialise(built, recorder)
        recorder.watch(built.model, {})
        run_training(built, workload, recorder, lambda *_: None)
    recording = recorder.recording
    start = next(event for event, phase, _ in recording.marks if phase != "load")
    sizes = recording.sizes
    return [sizes[abs(e) - 1] * (1 if e > 0 else -1) for e in recording.events[start:]]


def total_and_peak(sizes):
    """(sum of all allocations, most at once) in bytes."""
    live = peak = 0
    for size in sizes:
        live += size
        peak = max(peak, live)
    return sum(size for size in sizes if size > 0), peak


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("name", MODELS)
def test_books_are_the_profilers(name, checkpointing):
    real_total, real_peak = total_and_peak(
        memory_events(MODELS[name](), checkpointing=checkpointing)
    )
    total, peak = total_and_peak(traced_events(MODELS[name], checkpointing=checkpointing))
    assert total == pytest.approx(real_total, rel=0.005)
    assert peak == pytest.approx(real_peak, rel=0.0005)
