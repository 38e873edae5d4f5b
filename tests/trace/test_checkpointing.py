"""What selective checkpointing keeps of a layer, counted by hand from the libraries' policies."""

import pytest

from vramtop.estimator.workload import Device, Model, Workload
from vramtop.trace.run import run

HIDDEN, INNER, TOKENS = 256, 512, 2 * 128
CONFIG = {
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
}
A100, H100 = Device("A100", 80 << 30, (8, 0)), Device("H100", 80 << 30, (9, 0))


PRODUCTS = {  # of a layer, in their order, with their width
    "self_attn.q_proj": HIDDEN,
    "self_attn.k_proj": HIDDEN // 2,
    "self_attn.v_proj": HIDDEN // 2,
    "self_attn.o_proj": HIDDEN,
    "mlp.gate_proj": INNER,
    "mlp.up_proj": INNER,
    "mlp.down_proj": HIDDEN,
}
EVERY_OTHER = [*PRODUCTS][::2]
"""Saved are the first, third, fifth and seventh (torchtitan, _get_custom_policy)."""


def kept(stack, device):
    """(Bytes by module of products, whether attention's output is there) when forward ends."""
    asked = Workload(
        Model("small", CONFIG),
        batch=2,
        sequence=TOKENS // 2,
        precision="bf16",
        checkpointing="selective",
        stack=stack,
        device=device,
    )
    made = run(asked, lambda *_: None).recording
    end = next(event for event, phase, _ in made.marks if phase == "backward")
    live = set()
    for event in made.events[:end]:
        if event > 0:
            live.add(event - 1)
        else:
            live.remove(-event - 1)
    inside = {
        number: made.paths[made.block_paths[number]].partition("layers.0.")[2]
        for number in live
        if made.categories[number] == "activation"
    }
    products = {
        inside[number]: made.sizes[number]
        for number in inside
        if inside[number] in PRODUCTS and made.operations[number] == "aten::mm"
    }
    return products, any("scaled_dot_product" in made.operations[number] for number in inside)


@pytest.mark.parametrize("device", [A100, H100])
@pytest.mark.parametrize(("stack", "saved"), [("plain", [*PRODUCTS]), ("torchtitan", EVERY_OTHER)])
def test_products_that_the_policy_names_and_attention_are_kept(stack, saved, device):
    """On compute capability 9 attention is cuDNN's, and is kept as well as flash attention."""
    products, attention = kept(stack, device)
    assert products == {name: PRODUCTS[name] * TOKENS * 2 for name in saved}
    assert attention
