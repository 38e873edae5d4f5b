"""Every impossible workload is refused in one line that says what is allowed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vramtop.errors import UsageError
from vramtop.estimator import catalog
from vramtop.estimator.checks import FOREACH, FUSED, validate
from vramtop.estimator.config_numbers import longest_sequence
from vramtop.estimator.notes import notes
from vramtop.estimator.workload import (
    OPTIMIZERS,
    Device,
    Lora,
    Model,
    Parallel,
    Workload,
)

# Llama-2-7B and Mixtral-8x7B by their papers.
LLAMA = Model(
    "llama",
    {
        "model_type": "llama",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 4096,
        "vocab_size": 32000,
    },
)
MIXTRAL = Model(
    "mixtral",
    {
        "model_type": "mixtral",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_local_experts": 8,
        "max_position_embeddings": 32768,
        "vocab_size": 32000,
    },
)
BERT = Model(
    "bert",
    {
        "model_type": "bert",
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 512,
        "vocab_size": 30522,
    },
    auto_class="AutoModelForMaskedLM",
)
T4 = Device("Tesla T4", 15360 << 20, (7, 5))
CODE = Model("train.py:make", entry="train.py:make")
GOOD = Workload(LLAMA, sequence=2048)
INFERENCE = replace(GOOD, mode="inference")


def spread(**values):
    return replace(GOOD, parallel=Parallel(**values))


def of(model, **values):
    return replace(GOOD, model=model, **values)


def config(**values):
    return of(Model("llama", {**LLAMA.config, **values}))


IMPOSSIBLE = [
    (replace(GOOD, batch=0), "--batch 0: it must be 1 or more"),
    (replace(GOOD, batch=-3), "--batch -3"),
    (replace(GOOD, sequence=0), "--seq 0"),
    (replace(GOOD, sequence=4097), "at most 4096 tokens"),
    (replace(INFERENCE, sequence=4000, new_tokens=97), "--seq 4000 with 97 new tokens"),
    (replace(GOOD, precision="fp12"), "there are fp32, fp16, bf16"),
    (replace(GOOD, optimizer="adamx"), "there are adamw, adam"),
    (replace(GOOD, attention="linear"), "there are sdpa, flash, eager"),
    (replace(GOOD, checkpointing="half"), "there are none, full, selective"),
    (replace(GOOD, stack="jax"), "there are plain, hf-trainer"),
    (replace(GOOD, mode="dreaming"), "there are training, inference"),
    (replace(GOOD, grad_accumulation=0), "--grad-accumulation 0"),
    (replace(GOOD, lora=Lora(0)), "--lora 0"),
    (replace(GOOD, lora=Lora(8, dropout=1.0)), "below 1"),
    (replace(GOOD, device=Device("none", 0)), "above 0"),
    (replace(GOOD, new_tokens=8), "--new-tokens is for --mode inference"),
    (replace(GOOD, kv_dtype="fp8"), "--kv-dtype is for --mode inference"),
    (replace(INFERENCE, chunked_loss=True), "only for --mode training"),
    (replace(INFERENCE, checkpointing="full"), "only for --mode training"),
    (replace(INFERENCE, grad_accumulation=2), "only for --mode training"),
    (replace(INFERENCE, optimizer_implementation="fused"), "only for --mode training"),
    (replace(INFERENCE, kv_dtype="fp8"), "without --new-tokens"),
    (replace(INFERENCE, new_tokens=4, kv_dtype="int2"), "there are fp32, fp16"),
    (replace(INFERENCE, parallel=Parallel(gpus=2, zero=1)), "--zero 1 divides nothing"),
    (of(BERT, mode="inference", sequence=512, new_tokens=1), "generates no tokens"),
    (of(BERT, sequence=512, chunked_loss=True), "--chunked-loss is for language models"),
    (of(BERT, sequence=513), "at most 512"),
    (replace(GOOD, compute_dtype="bf16"), "--compute-dtype is for"),
    (replace(GOOD, double_quantization=True), "--double-quant is for --precision nf4"),
    (replace(GOOD, attention="flash", precision="fp32"), "--attention flash takes fp16 and bf16"),
    (replace(GOOD, attention="flash", device=T4), "needs compute capability 8.0; Tesla T4 has 7.5"),
    (replace(INFERENCE, precision="fp8", device=T4), "needs compute capability 8.9"),
    (replace(GOOD, optimizer="lion", optimizer_implementation="fused"), "--fused: lion has none"),
    (replace(GOOD, optimizer="muon", optimizer_implementation="foreach"), "--foreach: muon"),
    (replace(GOOD, stack="torchtitan", optimizer="lion"), "it has adam, adamw"),
    (spread(gpus=0), "--gpus 0"),
    (spread(gpus=6, tensor=4), "--gpus 6 is no multiple of --tp × --pp × --cp = 4 × 1 × 1 = 4"),
    (spread(gpus=1, zero=1), "--gpus 2 or more"),
    (spread(gpus=4, tensor=4, zero=3), "--gpus 8 or more"),
    (spread(gpus=2, zero=4), "there are 0, 1, 2 and 3"),
    (spread(gpus=3, tensor=3), "does not divide the 32 heads of llama; 1, 2, 4, 8, 16, 32 do"),
    (spread(gpus=2, sequence=True), "--sp needs --tp"),
    (spread(gpus=8, shard_gpus=4), "--shard-gpus is for"),
    (spread(gpus=8, zero=3, shard_gpus=3), "does not divide the 8 GPUs"),
    (spread(virtual_pipeline=2), "--vpp 2 needs --pp"),
    (spread(micro_batches=4), "--micro-batches is for --pp"),
    (spread(gpus=64, pipeline=64), "--pp 64: llama has 32 layers"),
    (spread(gpus=5, pipeline=5), "does not divide the 32 layers"),
    (spread(gpus=4, pipeline=4, virtual_pipeline=16), "--pp 4 × --vpp 16 does not divide"),
    (spread(gpus=4, pipeline=4, virtual_pipeline=2, micro_batches=6), "multiple of --pp 4"),
    (replace(spread(gpus=2, pipeline=2), grad_accumulation=2), "accumulates over --micro-batches"),
    (spread(gpus=3, context=3), "--seq 2048 cannot be divided over --cp 3"),
    (spread(gpus=2, expert=2), "--ep 2: llama has no experts"),
    (of(MIXTRAL, parallel=Parallel(gpus=3, expert=3)), "does not divide the 8 experts"),
    (of(MIXTRAL, parallel=Parallel(gpus=2, expert=4)), "does not divide the 2 GPUs"),
    (of(CODE, parallel=Parallel(gpus=2, tensor=2)), "is code"),
    (of(Model("empty")), "neither a configuration nor a function"),
    (of(Model("untyped", {"hidden_size": 8})), "no model_type"),
    (config(num_hidden_layers=0), "is corrupt: num_hidden_layers is 0"),
    (config(hidden_size="4096"), "is corrupt: hidden_size is '4096'"),
    (config(vocab_size=True), "is corrupt: vocab_size is True"),
    (config(hidden_size=4095), "32 heads do not divide the hidden size 4095"),
]


@pytest.mark.parametrize(("workload", "said"), IMPOSSIBLE, ids=[said for _, said in IMPOSSIBLE])
def test_what_is_impossible_is_said_in_one_line(workload, said):
    with pytest.raises(UsageError) as raised:
        validate(workload)
    message = str(raised.value)
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("precision", ["fp8", "int8", "int4", "nf4"])
def test_no_optimizer_trains_quantised_weights_but_any_trains_adapters_on_them(
    optimizer, precision
):
    workload = replace(GOOD, optimizer=optimizer, precision=precision)
    with pytest.raises(UsageError, match=f"{optimizer} cannot train {precision} weights"):
        validate(workload)
    validate(replace(workload, lora=Lora(8)))


POSSIBLE = [
    GOOD,
    replace(GOOD, sequence=4096),
    replace(INFERENCE, sequence=4000, new_tokens=96, kv_dtype="int8"),
    replace(INFERENCE, precision="int4"),
    replace(INFERENCE, parallel=Parallel(gpus=8, zero=3)),
    spread(gpus=64, tensor=8, pipeline=4, sequence=True, zero=1),
    spread(gpus=8, zero=3, shard_gpus=4),
    spread(gpus=4, pipeline=4, virtual_pipeline=4, micro_batches=8),
    of(MIXTRAL, parallel=Parallel(gpus=8, expert=8, zero=1)),
    # Fewer key-value heads than tensor-parallel GPUs: Megatron and vLLM keep copies.
    of(MIXTRAL, parallel=Parallel(gpus=16, tensor=16)),
    of(CODE),
]


@pytest.mark.parametrize("workload", POSSIBLE)
def test_what_is_possible_passes(workload):
    validate(workload)


def test_every_model_of_the_catalogue_passes_at_its_longest():
    for model in catalog.models():
        most = longest_sequence(model.config)
        validate(Workload(model, sequence=most or 512))


def test_fused_and_foreach_are_what_torch_has():
    torch = pytest.importorskip("torch")
    classes = {
        "adamw": torch.optim.AdamW,
        "adam": torch.optim.Adam,
        "sgd": torch.optim.SGD,
        "adagrad": torch.optim.Adagrad,
        "rmsprop": torch.optim.RMSprop,
        "adafactor": torch.optim.Adafactor,
        "muon": torch.optim.Muon,
    }
    for known, option in ((FUSED, "fused"), (FOREACH, "foreach")):
        takes = {
            name for name, kind in classes.items() if option in kind.__init__.__code__.co_varnames
        }
        assert takes == set(known) & set(classes)


def test_notes_on_bf16_before_ampere_and_on_copied_heads():
    assert "emulates" in notes(replace(GOOD, device=T4))[0]
    assert notes(replace(GOOD, precision="fp32", device=T4)) == ()
    (note,) = notes(of(MIXTRAL, parallel=Parallel(gpus=16, tensor=16)))
    assert "each head is kept 2 times" in note
    assert "fp16" in notes(replace(GOOD, precision="fp16"))[0]


def test_notes_where_no_kernel_of_sdpa_is_there():
    (_, note) = notes(replace(GOOD, device=T4))
    assert "no fused kernel for bf16 on" in note
    assert len(notes(replace(GOOD, device=T4, attention="eager"))) == 1
    assert "fp16" not in " ".join(notes(replace(GOOD, precision="amp-fp16", device=T4)))
    (note,) = notes(of(MIXTRAL, precision="fp32"))
    assert "no fused kernel for fp32 with grouped key-value heads:" in note
    assert notes(of(MIXTRAL, precision="bf16")) == ()
