"""Which kernel attention takes, and its buffers, by hand from PyTorch's sources."""

import dataclasses

import pytest

from vramtop.trace.attention_kernels import (
    Request,
    choose,
    efficient_backward_buffers,
    flash_backward_buffers,
)

A100, T4, L4, H100, RTX5090 = (8, 0), (7, 5), (8, 9), (9, 0), (12, 0)
SHAPE = (2, 8, 128, 64)
PLAIN = Request(SHAPE, SHAPE, SHAPE, "bf16")
FEWER = (2, 2, 128, 64)
GROUPED = dataclasses.replace(PLAIN, k=FEWER, v=FEWER, gqa=True)


def _of_dim(dim, **fields):
    shape = (2, 8, 128, dim)
    return Request(shape, shape, shape, **{"dtype": "bf16", **fields})


@pytest.mark.parametrize(
    ("request_", "capability", "kernel"),
    [
        (PLAIN, A100, "flash"),
        (PLAIN, L4, "flash"),
        (PLAIN, H100, "cudnn"),
        (PLAIN, RTX5090, "flash"),
        # Flash attention and bf16 begin with compute capability 8.0.
        (PLAIN, T4, "math"),
        (dataclasses.replace(PLAIN, dtype="fp16"), T4, "efficient"),
        (dataclasses.replace(PLAIN, dtype="fp32"), T4, "efficient"),
        (dataclasses.replace(PLAIN, dtype="fp32"), A100, "efficient"),
        (dataclasses.replace(PLAIN, dtype="fp32"), H100, "efficient"),
        (dataclasses.replace(PLAIN, dtype="fp64"), A100, "math"),
        # A mask is for the memory-efficient kernel, on Hopper for cuDNN.
        (dataclasses.replace(PLAIN, mask=True), A100, "efficient"),
        (dataclasses.replace(PLAIN, mask=True), H100, "cudnn"),
        # Grouped queries: flash and cuDNN can; the memory-efficient kernel cannot.
        (GROUPED, A100, "flash"),
        (GROUPED, H100, "cudnn"),
        (dataclasses.replace(GROUPED, gqa=False), A100, "math"),
        (dataclasses.replace(GROUPED, dtype="fp32"), A100, "math"),
        (dataclasses.replace(GROUPED, dtype="fp16"), T4, "math"),
        (dataclasses.replace(GROUPED, mask=True), A100, "math"),
        # cuDNN has dropout in sixteenths.
        (dataclasses.replace(PLAIN, dropout=0.1), H100, "flash"),
        (dataclasses.replace(PLAIN, dropout=0.125), H100, "cudnn"),
        # Causal with fewer queries than keys is another mask in flash attention 2.
        (dataclasses.replace(PLAIN, q=(2, 8, 64, 64), causal=True), A100, "efficient"),
        (dataclasses.replace(PLAIN, q=(2, 8, 64, 64)), A100, "flash"),
        # Head dimensions.
        (_of_dim(256), A100, "flash"),
        (_of_dim(264), A100, "efficient"),
        (_of_dim(224), L4, "efficient"),
        (_of_dim(256), L4, "flash"),
        (_of_dim(256, dropout=0.1), L4, "efficient"),
        (_of_dim(224, gradients=False), L4, "flash"),
        (_of_dim(20), A100, "flash"),
        (_of_dim(20, mask=True), A100, "math"),
        (_of_dim(20, dtype="fp32"), A100, "efficient"),
        (_of_dim(18, dtype="fp32"), A100, "math"),
        (_of_dim(18, dtype="fp32"), T4, "efficient"),
        (dataclasses.replace(PLAIN, v=(2, 8, 128, 32)), A100, "efficient"),
        # What no fused kernel takes.
        (Request((8, 128, 64), (8, 128, 64), (8, 128, 64), "bf16"), A100, "math"),
        (dataclasses.replace(PLAIN, dense=False), A100, "math"),
    ],
)
def test_choice(request_, capability, kernel):
    assert choose(request_, capability) == kernel


def test_flash_backward_buffers():
    # 2 x 8 heads of 100 queries, rounded to 128; heads of 72 are rounded to 96.
    assert flash_backward_buffers((2, 8, 100, 72), (2, 8, 100, 72)) == (
        [2 * 8 * 128, 2 * 8 * 128 * 96],
        [],
    )
    # Above 128 to a multiple of 64; grouped queries: dk and dv of all 8 heads.
    assert flash_backward_buffers((2, 8, 128, 160), (2, 2, 300, 160)) == (
        [2 * 8 * 128, 2 * 8 * 128 * 192],
        [2 * 300 * 8 * 160] * 2,
    )


def _heads_of(dim, queries=128):
    return (2, 8, queries, dim)


@pytest.mark.parametrize(
    ("dim", "dtype", "capability", "bytes_per_head", "products"),
    [
        # Two blocks of 64 queries, a tile of 64 x 64 fp32 and 16 bytes for each.
        (64, "fp16", T4, 2 * (16 + 64 * 64 * 4), False),
        (64, "bf16", A100, 2 * (16 + 64 * 64 * 4), False),
        (32, "fp32", A100, 2 * (16 + 64 * 64 * 4), True),
        # One block of 128 x 128, or of 128 x 64 and two columns.
        (128, "bf16", A100, 16 + 128 * 128 * 4, False),
        (128, "fp16", T4, 2 * (16 + 128 * 64 * 4), False),
        (128, "fp32", A100, 2 * (16 + 128 * 64 * 4), True),
        (128, "fp32", T4, 2 * 2 * (16 + 64 * 64 * 4), True),
        # Not in registers: besides a block of 64 keys of dk and dv, with the dimension rounded.
        (128, "bf16", L4, 2 * 2 * (16 + 64 * 64 * 4) + 2 * 64 * 128 * 4, False),
        (96, "bf16", L4, 2 * (16 + 128 * 64 * 4), False),
        (256, "bf16", A100, 4 * (16 + 128 * 64 * 4) + 2 * 64 * 256 * 4, False),
    ],
)
def test_efficient_backward_buffers(dim, dtype, capability, bytes_per_head, products):
    shape = _heads_of(dim)
    buffers = efficient_backward_buffers(shape, shape, dtype, capability)
    assert buffers.workspace_bytes == 16 * bytes_per_head
    assert buffers.delta == 2 * 8 * 128
    assert buffers.products == (2 * 8 * 128 * dim if products else 0)
