"""A training that nobody has prepared; prints its losses exactly and, at both ends, what of
torch's and Python's registries anybody could have put something into.

``attached_training.py [--workers N] [--steps N]``: ends after so many steps, or when standard
input ends.
"""

import argparse
import gc
import json
import select
import sys
import threading

import torch
from torch import nn
from torch.optim import optimizer as optimizers

parser = argparse.ArgumentParser()
parser.add_argument("--workers", type=int, default=0)
parser.add_argument("--steps", type=int, default=10**9)
args = parser.parse_args()


def registries():
    """Sizes and names; what differs between the ends was left behind by somebody."""
    found = {
        f"{holder.__name__}.{name}": len(value)
        for holder in (nn.modules.module, optimizers)
        for name, value in vars(holder).items()
        if name.startswith("_global") and hasattr(value, "__len__")
    }
    for number, thing in enumerate([*model.modules(), optimizer]):
        for name, value in vars(thing).items():
            if "hooks" in name and hasattr(value, "__len__"):
                found[f"{number}.{name}"] = len(value)
    found["saved tensors"] = torch._C._autograd._top_saved_tensors_default_hooks(True) is not None
    found["modes"] = torch._C._len_torch_dispatch_stack() + torch._C._len_torch_function_stack()
    found["tracing"] = str((sys.gettrace(), sys.getprofile(), threading._trace_hook))
    found["threads"] = sorted(t.name for t in threading.enumerate() if "vramtop" in t.name)
    found["path"] = [*sys.path, *map(repr, sys.path_hooks)]
    found["finders"] = list(map(repr, sys.meta_path))
    found["handlers"] = str((sys.excepthook, threading.excepthook))
    found["collector"] = str((gc.get_threshold(), gc.isenabled(), len(gc.callbacks)))
    found["main"] = sorted(vars(sys.modules["__main__"]))
    return json.dumps(found, sort_keys=True)


def batches():
    while True:
        x, y = torch.randn(256, 64), torch.randint(10, (256,))
        if not args.workers:
            yield x[:32], y[:32]
            continue
        data = torch.utils.data.TensorDataset(x, y)
        yield from torch.utils.data.DataLoader(data, 32, num_workers=args.workers)


torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, 10))
optimizer = torch.optim.AdamW(model.parameters())
step = x = y = loss = number = before = None
for number, (x, y) in enumerate(batches(), 1):
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if number == 3:
        before = registries()
    print(number, loss.item().hex(), flush=True)
    if number == args.steps or select.select([sys.stdin], [], [], 0.005)[0]:
        break
print("before", before)
print("after", registries())
