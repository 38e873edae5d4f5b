"""Liger's fused loss: its allocations counted by hand, its gradients where autograd puts them."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers

from tests.trace.events import happenings, materialised
from vramtop.errors import UsageError
from vramtop.estimator.workload import Lora, Model, Workload
from vramtop.trace.build import build
from vramtop.trace.lora import add_lora
from vramtop.trace.losses import chunked_loss, chunked_outputs, piece_tokens, shifted_outputs

VOCABULARY, HIDDEN, BATCH, TOKENS = 1000, 128, 2, 64
TINY = {
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": 352,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "num_hidden_layers": 2,
}
ROWS, HEAD = BATCH * TOKENS, VOCABULARY * HIDDEN


def model_of(precision="bf16", lora=None, **changes):
    workload = Workload(Model("llama", TINY | changes), precision=precision, lora=lora)
    return add_lora(build(workload).model, workload)


def loss_events(precision, lora=None, **changes):
    """What the loss allocates beyond the model below the head, and what is left of it."""
    model = model_of(precision, lora, **changes)
    base = model.get_base_model() if lora else model

    def prepare():
        materialised(model)
        base.tie_weights()
        return {
            name: torch.zeros(BATCH, TOKENS, dtype=torch.long) for name in ("input_ids", "labels")
        }

    def below(inputs):
        return base.model(input_ids=inputs["input_ids"])

    def whole(inputs):
        return chunked_outputs(model, inputs)

    first, _ = happenings(prepare, below)
    events, left = happenings(prepare, whole)
    assert events[: len(first)] == first
    return events[len(first) :], left


@pytest.mark.parametrize(
    ("sequence", "vocabulary", "hidden"),
    [(2048, 128256, 4096), (64, 1000, 128), (512, 32000, 4096)],
)
@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8])
def test_pieces_are_not_smaller_than_ligers_and_at_most_twice(sequence, vocabulary, hidden, batch):
    rows = batch * sequence
    least = -(-rows // -(-vocabulary // hidden))
    liger = min(1 << (least - 1).bit_length(), rows)
    ours = batch * piece_tokens(sequence, vocabulary, hidden)
    assert liger <= ours <= 2 * least + 2 * batch


def test_a_small_vocabulary_is_one_piece():
    assert piece_tokens(100, 500, 4096) == 100


@pytest.mark.parametrize(("precision", "width"), [("bf16", 2), ("fp32", 4)])
def test_gradients_are_made_in_forward_and_one_buffer_of_logits(precision, width):
    events, _ = loss_events(precision)
    # ceil(1000 / 128) = 8: pieces of an eighth, twice that: a quarter of all tokens.
    buffer = ROWS // 4 * VOCABULARY * width
    shift = [BATCH * (TOKENS + 1) * 8, ROWS * 8, -BATCH * (TOKENS + 1) * 8]
    made = [ROWS * HIDDEN * width, HEAD * width, ROWS * 4, ROWS, 8, -8, buffer]
    products = [HEAD * width, -HEAD * width] * 4 if precision == "fp32" else []
    begin = [*shift, *made, *products, -buffer]
    assert events[: len(begin)] == begin
    # Two gradients and the loss stay; the last hidden state, made below, is needed no more.
    assert sum(events) == ROWS * HIDDEN * width + HEAD * width + 4 - ROWS * HIDDEN * width


def test_a_frozen_head_has_no_gradient():
    events, _ = loss_events("bf16", Lora(8))
    assert HEAD * 2 not in events


@pytest.mark.parametrize("tied", [False, True])
def test_backward_gives_the_gradients_on(tied):
    model = model_of(tie_word_embeddings=tied)

    def prepare():
        materialised(model)
        model.tie_weights()
        inputs = {n: torch.zeros(BATCH, TOKENS, dtype=torch.long) for n in ("input_ids", "labels")}
        return chunked_loss(model, inputs)

    happenings(prepare, lambda loss: loss.backward())
    assert all(p.grad is not None for p in model.parameters())
    assert model.lm_head.weight.grad.shape == (VOCABULARY, HIDDEN)


def test_what_has_no_head_says_so():
    with pytest.raises(UsageError, match="Linear has no language model head for --chunked-loss"):
        chunked_loss(torch.nn.Linear(2, 2), {})


def test_logits_of_transformers_4_38_are_fp32_and_shifted_in_a_copy():
    """The same loss as today's; all logits once more in fp32, and those of all tokens but one."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**{k: v for k, v in TINY.items() if k != "model_type"})
    real = transformers.LlamaForCausalLM(config)
    ids = torch.randint(VOCABULARY, (BATCH, TOKENS))
    ours = shifted_outputs(real, {"input_ids": ids, "labels": ids})
    assert torch.allclose(ours["loss"], real(input_ids=ids, labels=ids).loss)
    model = model_of()

    def prepare():
        materialised(model)
        return {
            name: torch.zeros(BATCH, TOKENS, dtype=torch.long) for name in ("input_ids", "labels")
        }

    events, _ = happenings(prepare, lambda inputs: shifted_outputs(model, inputs))
    assert ROWS * VOCABULARY * 4 in events
    assert BATCH * (TOKENS - 1) * VOCABULARY * 4 in events
