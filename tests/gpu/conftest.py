"""GPU tests skip with the reason where there is no card or no CUDA build of torch."""

import importlib.util

import pytest


def why_not():
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    import torch

    if torch.version.cuda is None:
        return "torch is a CPU build"
    if not torch.cuda.is_available():
        return "torch finds no usable GPU"
    return None


def pytest_collection_modifyitems(items):
    reason = why_not()
    for item in items:
        if "gpu" in item.path.parts:
            item.add_marker(pytest.mark.gpu)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))
