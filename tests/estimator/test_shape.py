"""Parameters by formula against the counts that transformers builds and the hub publishes."""

import pytest

from vramtop.errors import UsageError
from vramtop.estimator.catalog import entries
from vramtop.estimator.shape import Shape
from vramtop.estimator.sizes import sizes_of
from vramtop.estimator.workload import Workload


def counted(entry):
    shape = Shape.from_config(entry.model.config, entry.model.auto_class)
    sizes = sizes_of(Workload(entry.model), shape, "only")
    return sum(part.count * w.elements for part in sizes.parts for w in part.weights)


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.model.name)
def test_parameters_are_those_that_transformers_builds(entry):
    assert counted(entry) == entry.built_parameters


# What the hub's file holds beside the model, in elements.
BESIDE = {
    # Rotary frequencies, 64 a layer.
    "huggyllama/llama-7b": 32 * 64,
    "huggyllama/llama-30b": 60 * 64,
    # The head stored apart though it is tied.
    "Qwen/Qwen3-0.6B": 151936 * 1024,
    "Qwen/Qwen3-1.7B": 151936 * 2048,
    "tiiuae/falcon-7b": 65024 * 4544,
    "tiiuae/falcon-40b": 65024 * 8192,
    # Causal masks, 1024 x 1024 a layer.
    "openai-community/gpt2": 12 * 1024**2,
    "openai-community/gpt2-medium": 24 * 1024**2,
    "openai-community/gpt2-large": 36 * 1024**2,
    "openai-community/gpt2-xl": 48 * 1024**2,
    "distilbert/distilgpt2": 6 * 1024**2,
    # SigLIP's vision tower, and a projection to the hidden size.
    "google/gemma-3-4b-it": 416_866_032 + 1152 * 2560 + 1152,
    "google/gemma-3-12b-it": 416_866_032 + 1152 * 3840 + 1152,
    "google/gemma-3-27b-it": 416_866_032 + 1152 * 5376 + 1152,
    # Relative positions of a decoder's cross attention, which nothing uses.
    "google-t5/t5-small": 32 * 8,
    "google-t5/t5-base": 32 * 12,
    "google-t5/t5-large": 32 * 16,
}


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.model.name)
def test_parameters_are_those_that_are_published(entry):
    if entry.published_parameters is None:
        # The sources give 6.7B, 141B and the like: nothing to be exact about.
        pytest.skip("published only rounded")
    beside = entry.published_parameters - entry.built_parameters
    if entry.model.name in BESIDE:
        assert beside == BESIDE[entry.model.name]
    elif beside:
        # The pre-training head, masks and tables of attention: at most a twentieth.
        assert abs(beside) < 0.05 * entry.built_parameters


def test_an_unknown_family_is_said_so():
    with pytest.raises(UsageError, match=r"model_type 'mamba' .*--method trace can"):
        Shape.from_config({"model_type": "mamba"}, "AutoModelForCausalLM")


def test_a_config_without_its_numbers():
    with pytest.raises(UsageError, match="this llama has no 'hidden_size'"):
        Shape.from_config({"model_type": "llama"}, "AutoModelForCausalLM")
