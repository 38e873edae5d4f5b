"""Sizes read from configurations, against what the models' authors publish."""

from __future__ import annotations

import pytest

from vramtop.errors import UsageError
from vramtop.estimator.catalog import find_model, models
from vramtop.estimator.outline import outline
from vramtop.estimator.workload import Model


@pytest.mark.parametrize("model", models(), ids=lambda model: model.name)
def test_every_model_of_the_catalogue(model: Model) -> None:
    sizes = outline(model)
    assert sizes.parameters == model.parameters
    assert 0 < sizes.layer_weights <= sizes.parameters
    assert sizes.hidden % sizes.heads == 0 or sizes.head_dim


@pytest.mark.parametrize(
    ("name", "active"),
    [
        # As their authors publish them: mistral.ai/news/mixtral-of-experts (12.9B) and
        # mixtral-8x22b (39B), Qwen3's model cards (3.3B, 22B), DeepSeek-V3's report (37B)
        ("mistralai/Mixtral-8x7B-v0.1", 12.9e9),
        ("mistralai/Mixtral-8x22B-Instruct-v0.1", 39e9),
        ("Qwen/Qwen3-30B-A3B", 3.3e9),
        ("Qwen/Qwen3-235B-A22B", 22e9),
        ("deepseek-ai/DeepSeek-V3", 37e9),
    ],
)
def test_weights_that_a_token_visits(name: str, active: float) -> None:
    model = find_model(name)
    assert model is not None
    sizes = outline(model)
    visited = sizes.parameters - sizes.unused_expert_weights
    assert visited == pytest.approx(active, rel=0.02)


def test_gpt2() -> None:
    model = find_model("gpt2")
    assert model is not None
    sizes = outline(model)
    assert (sizes.hidden, sizes.layers, sizes.heads, sizes.head_dim) == (768, 12, 12, 64)
    assert sizes.tied
    assert sizes.head_weights == 50257 * 768
    # 12 · (12 · 768² + 13 · 768) + positions and the last norm
    assert sizes.layer_weights == 12 * (12 * 768**2 + 13 * 768) + 1024 * 768 + 2 * 768


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Model("mine", entry="train:build"), "is code"),
        (Model("odd", {"hidden_size": 8}, parameters=9), "number of layers"),
        (Model("uncounted", {"hidden_size": 8}), "not known"),
    ],
)
def test_what_cannot_be_read(model: Model, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        outline(model)
