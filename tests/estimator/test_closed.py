"""The closed form against figures counted and measured elsewhere, and against arithmetic."""

import timeit
from dataclasses import replace

import pytest

from vramtop.errors import UsageError
from vramtop.estimator import closed
from vramtop.estimator.catalog import find_gpu, find_model
from vramtop.estimator.components.activations import activation_bytes, kept_bytes, recomputed_bytes
from vramtop.estimator.components.context import context_bytes, cublas_workspace_bytes
from vramtop.estimator.components.logits import logits_of
from vramtop.estimator.result import ALLOCATED_COMPONENTS, COMPONENTS
from vramtop.estimator.workload import Lora, Model, Parallel, Workload

GIB = 2**30
N = 6738415616
SEVEN_B = Workload(find_model("llama-7b"), batch=4, sequence=512)


def footprint(workload):
    return closed.predictor(workload).at(workload.batch)


def phases(workload):
    return {phase.name: phase for phase in footprint(workload).phases}


# Counted by saved_tensors_hooks on Llama-7B with torch 2.13 and transformers 5.23: bytes a layer
# in units of tokens x hidden.
@pytest.mark.parametrize(
    ("change", "coefficient"),
    [
        ({}, 45.5),
        ({"attention": "eager"}, 69.5),
        ({"precision": "amp-bf16"}, 55.5),
        ({"precision": "fp32"}, 83.0),
        ({"checkpointing": "full"}, 2.0),
        ({"checkpointing": "full", "precision": "amp-bf16"}, 4.0),
    ],
)
def test_activations_of_a_llama_layer(change, coefficient):
    sizes = closed.predictor(replace(SEVEN_B, **change)).sizes[0]
    ends = sizes.tokens * (sizes.embedding.saved + sizes.head.saved)
    per_layer = (activation_bytes(sizes).slope - ends) / 32
    assert per_layer / (512 * 4096) == pytest.approx(coefficient, rel=0.005)


def test_autocast_copies_the_linear_weights():
    sizes = closed.predictor(replace(SEVEN_B, precision="amp-bf16")).sizes[0]
    linear = N - 32000 * 4096 - 65 * 4096
    assert activation_bytes(sizes).base == 2 * linear


@pytest.mark.parametrize(
    ("change", "bytes_an_element"),
    [
        ({}, 2 + 2 + 4 + 2),
        ({"optimizer_implementation": "fused"}, 2 + 2 + 4),
        ({"precision": "fp32"}, 16 + 4),
        ({"precision": "amp-bf16"}, 16 + 4),
        ({"optimizer": "sgd"}, 2 + 2),
        ({"optimizer": "sgd-momentum"}, 2 + 2 + 2),
        ({"optimizer": "lion", "optimizer_implementation": "fused"}, 2 + 2 + 2),
    ],
)
def test_the_step_of_an_optimizer(change, bytes_an_element):
    workload = replace(SEVEN_B, stack="hf-trainer", optimizer_implementation="foreach")
    step = phases(replace(workload, **change))["step"]
    assert step.peak_bytes == pytest.approx(bytes_an_element * N, rel=0.002)


def test_the_phases_of_a_traced_llama():
    # A fake-tensor trace of two steps: 12.55 loaded, 62.76 in the step, 37.65 after zero_grad.
    found = phases(replace(SEVEN_B, stack="hf-trainer", optimizer_implementation="foreach"))
    assert found["load"].after_bytes / GIB == pytest.approx(12.55, rel=0.001)
    assert found["step"].peak_bytes / GIB == pytest.approx(62.76, rel=0.001)
    assert found["zero_grad"].after_bytes / GIB == pytest.approx(37.65, rel=0.001)


@pytest.mark.parametrize(
    ("precision", "stack", "factor"),
    [("bf16", "plain", 14), ("bf16", "hf-trainer", 12), ("fp32", "plain", 16)],
)
def test_logits_where_backward_begins(precision, stack, factor):
    llama3 = Workload(
        find_model("llama-3-8b"), batch=16, sequence=1024, precision=precision, stack=stack
    )
    tokens, words = 16 * 1024, 128256
    sizes = closed.predictor(llama3).sizes[0]
    logits = logits_of(sizes)
    assert (logits.saved + logits.backward_extra).at(16) == factor * tokens * words


def test_a_chunked_loss_never_has_all_logits():
    whole = Workload(find_model("llama-3-8b"), batch=16, sequence=1024)
    pieces = phases(replace(whole, chunked_loss=True))["backward"].peak_bytes
    head = 2 * 128256 * 4096
    assert phases(whole)["backward"].peak_bytes - pieces > 14 * 16 * 1024 * 128256 - 2 * head


def test_a_kv_cache_has_the_heads_of_keys():
    workload = Workload(
        find_model("llama-3-8b"), mode="inference", batch=2, sequence=1000, new_tokens=24
    )
    predictor = closed.predictor(workload)
    moment = predictor._stages[0].moments[-1]
    assert moment.components["kv_cache"].at(2) == 2 * 32 * 8 * 128 * 2 * 2 * 1024


def test_nested_scales_save_a_third_of_a_bit():
    nf4 = replace(SEVEN_B, precision="nf4", lora=Lora(8))
    plain = footprint(nf4).components["parameter"]
    nested = footprint(replace(nf4, double_quantization=True)).components["parameter"]
    linear = N - 2 * 32000 * 4096 - 65 * 4096
    assert (plain - nested) * 8 / linear == pytest.approx(0.373, abs=0.001)


@pytest.mark.parametrize(
    ("zero", "weights", "gradients", "states"), [(1, 8, 16, 1), (2, 1, 1, 1), (3, 1, 1, 1)]
)
def test_zero_divides(zero, weights, gradients, states):
    workload = replace(SEVEN_B, parallel=Parallel(gpus=8, zero=zero))
    moment = next(m for m in closed.predictor(workload)._stages[0].moments if m.phase == "step")
    parts = {name: value.at(4) for name, value in moment.components.items()}
    assert parts["parameter"] == pytest.approx(2 * N * weights / 8)
    assert parts["gradient"] == pytest.approx(2 * N * gradients / 8)
    assert parts["optimizer_state"] == pytest.approx(4 * N * states / 8)


@pytest.mark.parametrize("parallel", [Parallel(gpus=2), Parallel(gpus=2, context=2)])
def test_ddp_has_its_buckets_all_the_while(parallel):
    alone, spread = (
        {
            moment.phase: moment.components["gradient"].at(4)
            for moment in closed.predictor(workload)._stages[0].moments
            if moment.after
        }
        for workload in (SEVEN_B, replace(SEVEN_B, parallel=parallel))
    )
    for phase, gradients in spread.items():
        assert gradients - alone[phase] == pytest.approx(2 * N), phase


# By hand from fully_shard's order: what is there of whole weights beside the shards, in layers
# (L, 202,383,360 elements of Llama-7B) and root (R, embedding, head and last norm).
L = 202383360
R = N - 32 * L


@pytest.mark.parametrize(
    ("zero", "forward", "loss"), [(2, N, N), (3, R, R)], ids=["zero-2", "zero-3"]
)
def test_fsdp_gathers_whole_weights_beside_the_shards(zero, forward, loss):
    workload = replace(SEVEN_B, parallel=Parallel(gpus=8, zero=zero))
    moments = closed.predictor(workload)._stages[0].moments
    after = next(m for m in moments if m.phase == "forward" and m.after)
    begin = next(m for m in moments if m.phase == "backward")
    embedding = next(m for m in moments if m.phase == "backward" and m.where == "embedding")
    assert after.components["parameter"].at(4) == pytest.approx(2 * (N / 8 + forward))
    assert begin.components["parameter"].at(4) == pytest.approx(2 * (N / 8 + loss))
    # One layer is fetched ahead where it was not kept.
    assert begin.components["temporary"].at(4) == pytest.approx(0 if zero == 2 else 2 * L)
    assert embedding.components["parameter"].at(4) == pytest.approx(2 * (N / 8 + R))
    assert embedding.components["gradient"].at(4) == pytest.approx(2 * (N / 8 + R), rel=1e-3)


def test_fsdp_gathers_in_autocasts_dtype():
    workload = replace(SEVEN_B, precision="amp-bf16", parallel=Parallel(gpus=8, zero=3))
    predictor = closed.predictor(workload)
    forward = next(m for m in predictor._stages[0].moments if m.phase == "forward" and m.after)
    assert forward.components["parameter"].at(4) == pytest.approx(4 * N / 8 + 2 * R)
    assert predictor.sizes[0].cast_bytes() == 0


@pytest.mark.parametrize("sequence", [False, True])
def test_tensor_parallel_activations(sequence):
    # Korthikanti et al. 2022, counted here for Llama's layer: outside of the parts stay two norms
    # (8 of fp32 and bf16 copies each with their outputs), and inside 8 + 8 f.
    t = 4
    workload = replace(SEVEN_B, parallel=Parallel(gpus=t, tensor=t, sequence=sequence))
    sizes = closed.predictor(workload).sizes[0]
    found = sizes.layers[0].saved / 4096
    f = 11008 / 4096
    outside = 16 / t if sequence else 16
    assert found == pytest.approx(outside + (8 + 8 * f) / t, rel=0.005)


def test_a_pipelines_first_stage_holds_more():
    p = 4
    base = replace(SEVEN_B, parallel=Parallel(gpus=p, pipeline=p, micro_batches=8))
    one = closed.predictor(SEVEN_B).sizes[0]
    first, last = closed.predictor(base).sizes
    assert first.in_flight() == p
    assert last.in_flight() == 1
    assert first.layers[0].count == one.layers[0].count / p
    interleaved = replace(base, parallel=replace(base.parallel, virtual_pipeline=2))
    assert closed.predictor(interleaved).sizes[0].in_flight() == p * (1 + 3 / 8)


def test_context_parallel_divides_the_tokens():
    workload = replace(SEVEN_B, parallel=Parallel(gpus=4, context=4))
    assert closed.predictor(workload).sizes[0].tokens == 128


def test_expert_parallel_divides_the_experts():
    alone = Workload(find_model("mixtral-8x7b"), batch=1, sequence=512)
    spread = replace(alone, parallel=Parallel(gpus=4, expert=4))
    experts = 32 * 8 * 3 * 4096 * 14336 * 2
    loaded = [closed.predictor(w)._stages[0].moments[0].components for w in (alone, spread)]
    saved = loaded[0]["parameter"].at(1) - loaded[1]["parameter"].at(1)
    assert saved == pytest.approx(experts * 3 / 4)


def test_components_are_the_allocated_bytes():
    found = footprint(SEVEN_B)
    assert set(found.components) == set(COMPONENTS)
    total = sum(found.components[name] for name in ALLOCATED_COMPONENTS)
    assert total == found.peak_allocated_bytes
    assert sum(found.components.values()) == found.process_bytes


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_curve_is_the_footprints(batch):
    predictor = closed.predictor(SEVEN_B)
    assert abs(predictor.process_bytes(batch) - predictor.at(batch).process_bytes) <= 2 << 20


def test_the_first_step_has_no_states_before_its_end():
    full = replace(SEVEN_B, batch=64, stack="hf-trainer")
    assert footprint(full).peak_phase == "backward"
    assert footprint(full).peak_step == 2
    assert footprint(SEVEN_B).peak_step == 1


def test_the_outputs_of_a_step_hold_an_fp32_cache_under_autocast():
    # Rotated keys are fp32 there, and values are put to them: 2 x 4 bytes x 32 layers x hidden.
    kept = {
        precision: next(
            m
            for m in closed.predictor(replace(SEVEN_B, precision=precision))._stages[0].moments
            if m.phase == "zero_grad" and m.after
        )
        .components["activation"]
        .at(4)
        for precision in ("bf16", "amp-bf16")
    }
    logits, tokens = 4 * 512 * 32000 * 2, 4 * 512
    assert kept["bf16"] - logits == 2 * 2 * 32 * tokens * 4096
    assert kept["amp-bf16"] - logits == 2 * 4 * 32 * tokens * 4096


def test_an_encoder_decoders_outputs_hold_both_caches_and_the_encoders_states():
    t5 = Workload(find_model("t5-base"), batch=2, sequence=128, precision="fp32")
    moment = closed.predictor(t5)._stages[0].moments[-1]
    tokens = 2 * 128
    found = moment.components["activation"].at(2)
    assert found == tokens * 4 * (32128 + 768 + 2 * 2 * 12 * 768)


@pytest.mark.parametrize(("micro_batches", "first"), [(4, 0), (8, 1)])
def test_gradients_of_earlier_micro_batches_in_a_pipeline(micro_batches, first):
    parallel = Parallel(gpus=4, pipeline=4, micro_batches=micro_batches)
    stages = closed.predictor(replace(SEVEN_B, parallel=parallel))._stages
    whole = [stage.moments[-2].components["gradient"].at(4) for stage in stages]
    forward = [stage.moments[1].components["gradient"].at(4) for stage in stages]
    assert forward == [whole[0] * first, whole[1]]


def test_grouped_heads_in_fp32_have_no_fused_attention():
    qwen = Workload(find_model("qwen2.5-1.5b"), batch=1, sequence=1024)
    saved = {
        precision: closed.predictor(replace(qwen, precision=precision)).sizes[0].layers[0].saved
        for precision in ("bf16", "fp32")
    }
    # Twice the width, and the probabilities: 12 heads x 1024 keys x 4 bytes a token.
    assert saved["fp32"] > 12 * 1024 * 4
    assert saved["bf16"] < 12 * 1024 * 4 + 4 * 8960 * 2 + 20 * 1536


def test_attention_without_a_kernel_keeps_its_products():
    # bf16 has no kernel before compute capability 8.0: SDPA multiplies by itself in fp32.
    gpt2 = Workload(find_model("gpt2"), sequence=1024, checkpointing="selective")
    kept = {
        (device, attention): activation_bytes(
            closed.predictor(replace(gpt2, device=find_gpu(device), attention=attention)).sizes[0]
        ).slope
        for device in ("t4", "a100-80gb")
        for attention in ("sdpa", "eager")
    }
    scores, hidden = 12 * 1024, 768
    layers_and_tokens = 12 * 1024
    more = kept["t4", "sdpa"] - kept["a100-80gb", "sdpa"]
    assert more == layers_and_tokens * (scores * 4 + hidden * 2)
    assert kept["t4", "eager"] - kept["a100-80gb", "sdpa"] == layers_and_tokens * scores * 2
    prompt = replace(gpt2, mode="inference", checkpointing="none")
    t4, a100 = (
        closed.predictor(replace(prompt, device=find_gpu(name))).at(1).components["activation"]
        for name in ("t4", "a100-80gb")
    )
    assert t4 - a100 > 0


def test_selective_checkpointing_of_adapters_keeps_products_as_they_are_made():
    # PEFT's k-bit preparation: hidden states in fp32, products of 4-bit weights in bf16.
    asked = Workload(find_model("llama-2-7b"), precision="nf4", lora=Lora(16))
    sizes = closed.predictor(replace(asked, checkpointing="selective", sequence=2048)).sizes[0]
    linears = 2 * (4 * 4096 + 2 * 11008 + 4096)
    adapters = 2 * (16 + 4096) * 4
    kept = kept_bytes(sizes, sizes.layers[0])
    assert kept == 4 * 4096 + linears + 4 * 4096 + adapters


def test_autocast_keeps_no_casts_of_frozen_weights_in_checkpointed_layers():
    asked = Workload(find_model("llama-2-7b"), precision="amp-bf16", lora=Lora(16))
    layer = 2 * (4 * 4096 * 4096 + 3 * 4096 * 11008)
    kept = {}
    for checkpointing in ("none", "full"):
        sizes = closed.predictor(replace(asked, checkpointing=checkpointing)).sizes[0]
        kept[checkpointing] = activation_bytes(sizes).base
    assert kept["none"] - kept["full"] == 32 * layer
    assert recomputed_bytes(sizes).base == layer


def test_code_has_no_closed_form():
    with pytest.raises(UsageError, match="--method trace can run code"):
        closed.predictor(Workload(Model("x", entry="a:b")))


def test_workspaces_and_contexts():
    assert cublas_workspace_bytes(find_gpu("h100")) == 32 << 20
    assert cublas_workspace_bytes(find_gpu("a100")) == 8519680
    assert context_bytes(find_gpu("t4"), 1) == 141 << 20
    assert context_bytes(find_gpu("t4"), 2) - context_bytes(find_gpu("t4"), 1) == 544 << 20


def test_it_is_fast():
    def answer():
        closed.predictor(SEVEN_B).at(4)

    made = closed.predictor(SEVEN_B)
    assert min(timeit.repeat(answer, number=5, repeat=5)) / 5 < 1e-3
    assert min(timeit.repeat(lambda: made.process_bytes(7), number=100, repeat=5)) / 100 < 1e-4
