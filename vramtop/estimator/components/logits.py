"""Logits and cross entropy: tokens x vocabulary, several times over."""

from __future__ import annotations

from dataclasses import dataclass

from ..sizes import ZERO, Affine, Sizes


@dataclass(frozen=True, slots=True)
class Logits:
    """Bytes of the logits at the moments that matter."""

    saved: Affine = ZERO
    """At the end of forward: the logits, and the log-softmax that backward needs."""
    forward_extra: Affine = ZERO
    """More while the loss is computed: the fp32 copy."""
    backward_extra: Affine = ZERO
    """More while backward begins: gradients of loss and log-softmax."""
    kept: Affine = ZERO
    """Held by the loop's ``outputs`` until the next forward has its own."""


def logits_of(sizes: Sizes) -> Logits:
    """Per token and word of the vocabulary, l being the bytes of a logit.

    transformers' ForCausalLMLoss takes the logits as fp32: l + 4 saved, 8 more in backward, so
    14 for bf16 and 16 for fp32 while ``outputs`` is referenced, 12 where it is not (counted). BERT
    and T5 give them to CrossEntropyLoss as they are: autocast leaves its log-softmax alone, which
    is called with a dtype (ATen/native/LossNLL.cpp), and has nll_loss take and save an fp32 copy.
    """
    w, shape = sizes.workload, sizes.shape
    if sizes.stage == "first" or shape.image or "SequenceClassification" in shape.auto_class:
        return Logits()
    width = sizes.activation_width
    words = shape.vocabulary / w.parallel.tensor
    if not w.training:
        if w.new_tokens:
            return Logits(saved=Affine(0.0, words * (width + 4)))
        capped = 2 if shape.logit_softcap else 1
        return Logits(
            saved=Affine(0.0, sizes.tokens * words * width),
            forward_extra=Affine(0.0, sizes.tokens * words * width * (capped - 1)),
        )
    per_token = sizes.tokens * words
    if w.chunked_loss:
        return _chunked(sizes, per_token)
    upcast = shape.model_type not in ("bert", "roberta", "t5")
    wide = 4 if upcast else width
    copies = 4 if w.autocast_dtype and not upcast else 0
    holds = w.stack in ("plain", "fsdp-qlora")
    capped = width if shape.logit_softcap else 0
    own = width + capped
    # Dropped logits live as long as nothing but the loop's variable needs them; fp32 logits are
    # their own fp32 copy.
    kept = width if holds else 0
    copied = wide if wide != width else 0
    return Logits(
        saved=Affine(0.0, per_token * ((own if holds else capped) + wide + copies)),
        forward_extra=Affine(0.0, per_token * (copied if holds else copied + width)),
        # The copy goes before the gradient of log-softmax comes.
        backward_extra=Affine(0.0, per_token * (copies or 2 * wide)),
        kept=Affine(0.0, per_token * kept),
    )


def _chunked(sizes: Sizes, per_token: float) -> Logits:
    """As Liger's fused linear cross entropy: chunks of about tokens / (vocabulary / hidden) rows.

    The gradients of hidden states and head are made in forward and held until backward
    (liger_kernel/ops/fused_linear_cross_entropy.py).
    """
    shape = sizes.shape
    wanted = max(shape.vocabulary // shape.hidden, 1)
    chunks = 1 << (wanted - 1).bit_length()
    width = sizes.activation_width
    head = shape.vocabulary / sizes.workload.parallel.tensor * shape.hidden
    trained = sizes.workload.lora is None
    return Logits(
        saved=Affine(head * sizes.width if trained else 0.0, sizes.tokens * shape.hidden * width),
        forward_extra=Affine(0.0, per_token / chunks * (width + 4)),
    )
