"""BERT-large as torch before 1.11 trained it: softmax kept its input as well as its output.

``_softmax_backward_data`` took the input, of which it needed the dtype alone; since 1.11 it takes
the dtype (transformers/pytorch_utils.py, ``softmax_backward_data``, has both calls). The rows of
perf_train_gpu_one are from that time.
"""

import torch
from torch.nn import functional
from transformers import AttentionInterface, BertConfig, BertForSequenceClassification

NAME = "eager_before_1_11"


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores, dtype):
        made = functional.softmax(scores, dim=-1, dtype=dtype)
        ctx.save_for_backward(scores, made)
        return made

    @staticmethod
    def backward(ctx, gradient):
        scores, made = ctx.saved_tensors
        inner = (gradient * made).sum(-1, keepdim=True)
        return ((gradient - inner) * made).to(scores.dtype), None


def attention(module, query, key, value, mask, scaling=None, dropout=0.0, **_):
    """BertSelfAttention of transformers 4.18: a mask of ones is made and, in fp32, always added."""
    scores = torch.matmul(query, key.transpose(-1, -2)) / query.size(-1) ** 0.5
    if mask is None:
        mask = torch.zeros(query.size(0), 1, 1, key.size(2), dtype=torch.float32)
    scores = scores + mask
    wide = torch.float32 if torch.is_autocast_enabled("cpu") else None
    probabilities = functional.dropout(_Softmax.apply(scores, wide), dropout, module.training)
    context = torch.matmul(probabilities, value)
    return context.transpose(1, 2).contiguous(), probabilities


def large():
    """(bert-large-uncased with two classes, its step)."""
    AttentionInterface.register(NAME, attention)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        max_position_embeddings=512,
        attn_implementation=NAME,
    )
    return BertForSequenceClassification(config).train(), step


def step(model, batch, sequence):
    """Loss of random tokens, as the page's dummy data set has them."""
    tokens = torch.zeros(batch, sequence, dtype=torch.long)
    return model(input_ids=tokens, labels=torch.zeros(batch, dtype=torch.long)).loss
