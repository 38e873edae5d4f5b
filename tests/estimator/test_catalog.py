"""The catalogue: everybody's ways of writing a name, and what NVML prints."""

import pytest

from vramtop.errors import UsageError
from vramtop.estimator.catalog import entries, find_gpu, find_model, gpus, models, suggest


def test_it_is_as_large_as_promised():
    assert len(models()) == 107
    assert len(gpus()) == 59


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("llama-2-7b", "meta-llama/Llama-2-7b-hf"),
        ("Llama-2-7B-HF", "meta-llama/Llama-2-7b-hf"),
        ("meta-llama/llama-2-7b-chat-hf", "meta-llama/Llama-2-7b-hf"),
        ("GPT2", "openai-community/gpt2"),
        ("openai-community/gpt2", "openai-community/gpt2"),
        ("qwen2.5 7b", "Qwen/Qwen2.5-7B"),
        ("vit-b/16", "google/vit-base-patch16-224"),
    ],
)
def test_models_by_their_names(said, meant):
    model = find_model(said)
    assert model is not None
    assert model.name == meant


def test_a_model_that_is_not_there():
    assert find_model("llama-9-7b") is None
    assert "llama-2-7b" in suggest("lama-2-7b")
    assert suggest("zzzzzzzzzz") == ()


def test_names_are_of_one_model_each():
    names = [n.lower() for e in entries() for n in (e.model.name, *e.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("said", "name", "mib"),
    [
        ("4090", "NVIDIA GeForce RTX 4090", 24564),
        ("RTX 4090 24GB", "NVIDIA GeForce RTX 4090", 24564),
        ("4090 laptop", "NVIDIA GeForce RTX 4090 Laptop GPU", 16376),
        ("rtx3090", "NVIDIA GeForce RTX 3090", 24576),
        ("4070ti", "NVIDIA GeForce RTX 4070 Ti", 12282),
        ("4070", "NVIDIA GeForce RTX 4070", 12282),
        ("4060", "NVIDIA GeForce RTX 4060", 8188),
        ("a100-80gb", "NVIDIA A100-SXM4-80GB", 81920),
        ("A100 40 GB", "NVIDIA A100-SXM4-40GB", 40960),
        ("a100-pcie-40gb", "NVIDIA A100-PCIE-40GB", 40960),
        ("A100", "NVIDIA A100-SXM4-80GB", 81920),
        ("A100 SXM", "NVIDIA A100-SXM4-80GB", 81920),
        ("H100", "NVIDIA H100 80GB HBM3", 81559),
        ("h100 pcie", "NVIDIA H100 PCIe", 81559),
        ("h100 94gb", "NVIDIA H100 NVL", 95830),
        ("H200", "NVIDIA H200", 143771),
        ("h200 141GB", "NVIDIA H200", 143771),
        ("t4", "Tesla T4", 15360),
        ("T4 16GB", "Tesla T4", 15360),
        ("l40s", "NVIDIA L40S", 46068),
        ("L40", "NVIDIA L40", 46068),
        ("a10", "NVIDIA A10", 23028),
        ("a10g", "NVIDIA A10G", 23028),
        ("V100", "Tesla V100-SXM2-16GB", 16384),
        ("v100 32gb", "Tesla V100-SXM2-32GB", 32768),
        ("a6000", "NVIDIA RTX A6000", 49140),
        ("rtx 6000 ada", "NVIDIA RTX 6000 Ada Generation", 49140),
        ("titan rtx", "NVIDIA TITAN RTX", 24576),
        ("1080 ti", "NVIDIA GeForce GTX 1080 Ti", 11264),
    ],
)
def test_gpus_by_everybodys_names(said, name, mib):
    device = find_gpu(said)
    assert (device.name, device.total_bytes) == (name, mib * 2**20)


@pytest.mark.parametrize("device", gpus(), ids=lambda device: device.name)
def test_nvidia_smis_own_name_finds_the_card(device):
    assert find_gpu(device.name) == device


@pytest.mark.parametrize("said", ["", "4091", "h100 33gb", "radeon"])
def test_an_unknown_gpu_is_said_so(said):
    with pytest.raises(UsageError, match=r"no GPU .* or give --vram SIZE"):
        find_gpu(said)
