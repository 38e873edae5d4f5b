"""CUDA's autocast policies on fake CPU tensors, against the lists in PyTorch's own header."""

import re
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from tests.trace.storages import Storages
from vramtop.trace import autocast as module
from vramtop.trace.autocast import autocast

HEADER = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"


def _list(name):
    text = HEADER.read_text()
    found = re.search(rf"#define {name}\(_\)((?:.*\\\n)*.*)\n", text)
    assert found
    entries = re.findall(r"\b_\(([^()]*)\)", found.group(1))
    return {".".join(part.strip() for part in entry.split(",")) for entry in entries}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("LOWER_PRECISION", "AT_FORALL_LOWER_PRECISION_FP"),
        ("FP32", "AT_FORALL_FP32"),
        ("FP32_BY_DTYPE", "AT_FORALL_FP32_SET_OPT_DTYPE"),
        ("PROMOTE", "AT_FORALL_PROMOTE"),
    ],
)
def test_lists_are_those_of_the_header(ours, theirs):
    if not HEADER.exists() or theirs not in HEADER.read_text():
        pytest.skip("this torch comes without the header")
    assert getattr(module, ours) == _list(theirs)


def _weights():
    return torch.empty(64, 64, requires_grad=True), torch.empty(8, 64)


@pytest.mark.parametrize(("name", "lower"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_dtypes(name, lower):
    single = torch.float32
    with FakeTensorMode(), autocast(name):
        weight, x = _weights()
        scale = torch.empty(64)
        y = functional.linear(x, weight)
        kernel = torch.empty(4, 8, 3, 3)
        targets = torch.zeros(8, dtype=torch.long)
        cases = [
            (y, lower),
            (x @ x.t(), lower),
            (torch.einsum("ij,kj->ik", x, weight), lower),
            (torch.mv(weight, scale), lower),
            (functional.conv2d(torch.empty(1, 8, 9, 9), kernel), lower),
            (functional.gelu(y), lower),
            (torch.cat([y, y]), lower),
            (functional.layer_norm(y, (64,), scale, scale), single),
            (functional.rms_norm(y, (64,), scale), single),
            (functional.softmax(y, -1), single),
            (functional.log_softmax(y, -1), single),
            (functional.nll_loss(y, targets), single),
            (functional.mse_loss(y, y), single),
            (y.pow(2), single),
            (y.exp(), single),
            (y.sum(), single),
            (y.sum(-1), single),
            (y.cumsum(0), single),
            (y.norm(), single),
            (y.norm(dim=1), single),
            (y.norm(p=1, dim=1, keepdim=True), single),
            (torch.addcmul(x, y, y), single),
            (torch.addcmul(y, y, y), lower),
            (y + x, single),
            # An explicit dtype stays.
            (y.sum(dtype=lower), lower),
            (functional.softmax(y, -1, dtype=torch.float64), torch.float64),
            # Double and integers are left alone.
            (torch.empty(3, dtype=torch.float64).exp(), torch.float64),
        ]
    assert [case.dtype for case, _ in cases] == [dtype for _, dtype in cases]


def test_nested_and_disabled():
    with FakeTensorMode(), autocast("bf16"):
        weight, x = _weights()
        with torch.autocast("cpu", enabled=False):
            assert functional.linear(x, weight).dtype == torch.float32
        with autocast("fp16"):
            assert functional.linear(x, weight).dtype == torch.float16
        assert functional.linear(x, weight).dtype == torch.bfloat16


def test_a_weight_is_cast_once_until_the_outermost_exit():
    def casts(storages):
        return sum(shape == (64, 64) for op, shape, _ in storages.take() if op == "_to_copy")

    with FakeTensorMode(), Storages() as storages:
        weight, x = _weights()
        frozen = torch.empty(64, 64)
        with autocast("bf16"):
            functional.linear(x, weight)
            with autocast("bf16"):
                functional.linear(x, weight)
            functional.linear(x, weight)
            assert casts(storages) == 1
            functional.linear(x, frozen)
            functional.linear(x, frozen)
            assert casts(storages) == 2
        with autocast("bf16"):
            functional.linear(x, weight)
        assert casts(storages) == 1


def test_the_autocast_of_the_cpu_is_left_as_it_was():
    with autocast("bf16"):
        pass
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = torch.ones(2, 4, dtype=torch.bfloat16)
        # The CPU's policies: a softmax is not cast, a concatenation is promoted.
        assert functional.softmax(x, -1).dtype == torch.bfloat16
        assert torch.cat([x, x.float()]).dtype == torch.float32
