"""Options of the estimator's commands: what they mean, and where MODEL is found."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from vramtop.cli import model_source
from vramtop.cli import workload_options as options
from vramtop.errors import UsageError
from vramtop.estimator.workload import AllocatorConfig, Device, Lora, Parallel

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 1000,
    "vocab_size": 100,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.40.0",
}


def workload(*words):
    """The workload and the given fields; a single text is split at its blanks."""
    words = words[0].split() if len(words) == 1 else words
    parser = argparse.ArgumentParser()
    options.add_model_options(parser)
    options.add_batch_options(parser)
    options.add_arithmetic_options(parser)
    options.add_parallel_options(parser)
    args = parser.parse_args(words)
    return options.workload_of(args), options.given_fields(args)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "config.json").write_text(json.dumps(LLAMA))
    return tmp_path / "toy"


def test_what_is_left_open(folder):
    asked, given = workload(str(folder))
    assert (asked.mode, asked.batch, asked.sequence) == ("training", 1, 1000)
    assert (asked.precision, asked.optimizer, asked.attention) == ("bf16", "adamw", "sdpa")
    assert asked.device is None
    assert given == frozenset()


def test_the_default_sequence_is_2048_where_the_model_can():
    assert workload("llama-2-7b")[0].sequence == 2048
    assert workload("gpt2")[0].sequence == 1024
    assert workload("gpt2", "--mode", "inference", "--new-tokens", "24")[0].sequence == 1000


def test_every_option_has_its_field():
    asked, given = workload(
        "llama-2-7b --gpu h100 --seq 512 --batch 3 --precision nf4 --double-quant "
        "--compute-dtype fp16 --optimizer paged-adamw-8bit --attention eager --checkpointing full "
        "--lora 8 --lora-targets q_proj,v_proj --lora-dropout 0.05 --grad-accumulation 4 "
        "--chunked-loss --stack hf-trainer --alloc-conf expandable_segments:True"
    )
    assert (asked.sequence, asked.batch, asked.grad_accumulation) == (512, 3, 4)
    assert (asked.precision, asked.double_quantization, asked.compute_dtype) == (
        "nf4",
        True,
        "fp16",
    )
    assert (asked.optimizer, asked.attention, asked.checkpointing) == (
        "paged-adamw-8bit",
        "eager",
        "full",
    )
    assert asked.lora == Lora(8, ("q_proj", "v_proj"), 0.05)
    assert (asked.chunked_loss, asked.stack) == (True, "hf-trainer")
    assert asked.allocator == AllocatorConfig(expandable_segments=True)
    assert asked.device.name.startswith("NVIDIA H100")
    assert {"sequence", "batch", "lora", "precision"} <= given
    assert "tensor" not in given


def test_spread_over_gpus():
    asked, given = workload(
        "llama-2-7b --gpus 64 --fsdp --shard-gpus 4 --tp 2 --sp --pp 4 --vpp 2 --cp 2 --ep 1 "
        "--micro-batches 8"
    )
    assert asked.parallel == Parallel(
        gpus=64,
        zero=3,
        shard_gpus=4,
        tensor=2,
        sequence=True,
        pipeline=4,
        virtual_pipeline=2,
        context=2,
        micro_batches=8,
    )
    assert {"tensor", "pipeline", "zero"} <= given


@pytest.mark.parametrize("name", ["fused", "foreach", "forloop"])
def test_how_the_optimizer_steps(name):
    assert workload("llama-2-7b", f"--{name}")[0].implementation == name


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GiB", 24 << 30), ("24 G", 24 << 30), ("80GB", 80 * 10**9), ("24576mib", 24 << 30),
     ("1.5TiB", 3 << 39)],
)  # fmt: skip
def test_sizes(text, size):
    assert options.parse_size(text) == size
    assert workload("llama-2-7b", "--vram", text)[0].device == Device(text, size)


@pytest.mark.parametrize("text", ["24", "", "GiB", "-3GiB", "0GiB", "24XB", "24 GiB GiB"])
def test_what_is_no_size(text):
    with pytest.raises(UsageError, match="write 24GiB"):
        options.parse_size(text)


def test_the_allocators_settings():
    assert options.parse_alloc_conf("") == AllocatorConfig()
    assert options.parse_alloc_conf(
        "expandable_segments:True, max_split_size_mb:128,roundup_power2_divisions:4"
    ) == AllocatorConfig(True, 128 << 20, 4)
    assert options.parse_alloc_conf("roundup_power2_divisions:1") == AllocatorConfig()


@pytest.mark.parametrize(
    "text",
    ["expandable_segments", "expandable_segments:yes", "max_split_size_mb:20",
     "roundup_power2_divisions:3", "backend:cudaMallocAsync"],
)  # fmt: skip
def test_settings_that_are_not_known(text):
    with pytest.raises(UsageError, match="there are expandable_segments"):
        options.parse_alloc_conf(text)


@pytest.mark.parametrize("words", [["--lora-dropout", "0.1"], ["--lora-targets", "q_proj"]])
def test_adapters_options_need_adapters(words):
    with pytest.raises(UsageError, match="needs --lora"):
        workload("llama-2-7b", *words)


def test_a_file_and_its_folder_are_the_same_model(folder):
    by_folder = model_source.find_model(str(folder))
    assert model_source.find_model(str(folder / "config.json")) == by_folder
    assert by_folder.name == "toy"
    assert by_folder.auto_class == "AutoModelForCausalLM"
    assert by_folder.config["hidden_size"] == 64
    assert not {"torch_dtype", "architectures", "transformers_version"} & set(by_folder.config)


@pytest.mark.parametrize(
    ("architecture", "kind", "auto_class"),
    [
        ("BertForMaskedLM", "bert", "AutoModelForMaskedLM"),
        ("T5ForConditionalGeneration", "t5", "AutoModelForSeq2SeqLM"),
        ("ViTForImageClassification", "vit", "AutoModelForImageClassification"),
        ("BertForSequenceClassification", "bert", "AutoModelForSequenceClassification"),
        ("MistralForCausalLM", "mistral", "AutoModelForCausalLM"),
    ],
)
def test_the_class_that_makes_it(architecture, kind, auto_class):
    config = {"architectures": [architecture], "model_type": kind}
    assert model_source.auto_class_of(config) == auto_class


def test_of_images_and_text_the_text():
    value = {"model_type": "gemma3", "text_config": {**LLAMA, "model_type": "gemma3_text"}}
    model = model_source.model_from(value, "gemma", "here")
    assert model.config["model_type"] == "gemma3_text"
    assert "text model" in model.name


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"model_type": "llama"', "is no JSON"),
        ("", "is no JSON"),
        ("[1, 2]", "must be a JSON object"),
        ("{}", "has no model_type"),
        ('{"model_type": 7}', "has no model_type"),
        ("[" * 100_000, "is no JSON"),
        (b"\xff\xfe\x00", "is no JSON"),
    ],
)
def test_corrupt_configurations(tmp_path, content, said):
    path = tmp_path / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as raised:
        model_source.find_model(str(path))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_files_that_are_not_there(tmp_path):
    for text in (str(tmp_path / "config.json"), str(tmp_path), "nowhere/train.py:make"):
        with pytest.raises(UsageError, match="there is no file"):
            model_source.find_model(text)
    with pytest.raises(UsageError, match="no file or folder"):
        model_source.find_model("/no/such/folder")


def test_functions(tmp_path):
    assert model_source.find_model("my.models:tiny").entry == "my.models:tiny"
    script = tmp_path / "train.py"
    script.write_text("def make(): ...")
    assert model_source.find_model(f"{script}:make").entry == f"{script}:make"


def test_a_slip_of_the_pen_is_told_at_once():
    with pytest.raises(UsageError, match=r"did you mean llama-2-7b"):
        model_source.find_model("lama-2-7b")


def test_the_hubs_cache_is_read(tmp_path, monkeypatch):
    # huggingface_hub's layout: models--org--name/{refs/main, snapshots/COMMIT/config.json}
    home = tmp_path / "models--some-org--toy"
    for commit, width in (("aaa", 64), ("bbb", 128)):
        (home / "snapshots" / commit).mkdir(parents=True)
        (home / "snapshots" / commit / "config.json").write_text(
            json.dumps({**LLAMA, "hidden_size": width})
        )
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("bbb")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    model = model_source.find_model("some-org/toy")
    assert (model.name, model.config["hidden_size"]) == ("some-org/toy", 128)


def test_a_hub_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(model_source, "_ASK_TIMEOUT_S", 0.01)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    with pytest.raises(UsageError, match=r"no answer from huggingface\.co; a config\.json"):
        model_source.find_model("some-org/nothing")


def test_offline_no_hub_is_asked(monkeypatch):
    monkeypatch.setattr(model_source.subprocess, "run", lambda *_, **__: pytest.fail("asked"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set"):
        model_source.find_model("some-org/nothing")


def test_the_catalogue_comes_before_any_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(Path(tmp_path)))
    assert model_source.find_model("meta-llama/Llama-2-7b-hf").parameters == 6738415616
