"""What every script does alike: seeds, a pause each step, digests of all it has computed."""

import hashlib
import os
import random
import time
import warnings

import numpy as np
import torch

STEPS = 100
PAUSE_S = float(os.environ.get("PAUSE_S", "0"))
"""Slept each step, so that a watched run lasts long enough for several steps to be sampled."""

warnings.simplefilter("always")
# torch says so of itself, when its compiler is imported.
warnings.filterwarnings("ignore", message=".torch.jit.script_method. is deprecated")


class Proof:
    """Two runs that print the same have computed the same, bit for bit."""

    def __init__(self, seed=0):
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        self._losses = hashlib.sha256()
        self._count = 0

    def loss(self, *values):
        """Remember the bytes of a step's results, then pause."""
        for value in values:
            self._losses.update(raw(value))
            self._count += 1
        time.sleep(PAUSE_S)

    def end(self, *modules, **values):
        """Print the digests of losses, parameters, buffers and generators."""
        print("losses", self._count, self._losses.hexdigest())
        kept = hashlib.sha256()
        for module in modules:
            for name, value in module.state_dict().items():
                if isinstance(value, torch.Tensor):
                    kept.update(name.encode() + raw(value))
        print("parameters", kept.hexdigest())
        generators = hashlib.sha256(torch.get_rng_state().numpy().tobytes())
        if torch.cuda.is_initialized():
            generators.update(torch.cuda.get_rng_state().numpy().tobytes())
        generators.update(repr(random.getstate()).encode())
        generators.update(repr(np.random.get_state()).encode())
        print("generators", generators.hexdigest())
        print("grad", torch.is_grad_enabled(), "inference", torch.is_inference_mode_enabled())
        print("threads", torch.get_num_threads(), "dtype", torch.get_default_dtype())
        for name, value in values.items():
            print(name, value)


def raw(value):
    """The bytes of a tensor, exactly."""
    if hasattr(value, "_local_tensor"):  # of a sharded one, this rank's
        value = value._local_tensor
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
