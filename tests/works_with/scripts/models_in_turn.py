"""Models made, trained and deleted in turn: they die at once, and nothing grows.

The garbage collector is off: whatever a reference count alone frees must still be freed by it.
"""

import gc
import os
import weakref
from pathlib import Path

import parts
import torch
import torch._dynamo  # a frame of this import would keep the first optimizer, which causes it
from proof import Proof
from torch.multiprocessing.reductions import StorageWeakRef

TURNS, STEPS_A_TURN = 40, 4
proof = Proof()


def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def turn():
    """One model's life; says which of its parts have outlived it."""
    model = parts.Transformer(depth=2, width=128)
    optimizer = torch.optim.AdamW(model.parameters())
    lived = []
    for _ in range(STEPS_A_TURN):
        out = model(parts.tokens())
        loss = out.pow(2).mean()
        kept = StorageWeakRef(out.untyped_storage())
        del out
        optimizer.zero_grad()
        loss.backward()
        lived.append(kept.expired())  # backward has let go of the activations
        gradient = StorageWeakRef(model.head.weight.grad.untyped_storage())
        optimizer.step()
        proof.loss(loss)
        optimizer.zero_grad()
        lived.append(gradient.expired())
    state = next(iter(optimizer.state.values()))["exp_avg"]
    refs = [weakref.ref(o) for o in (model, optimizer, model.head.weight, model.blocks[0])]
    storages = [StorageWeakRef(t.untyped_storage()) for t in (model.head.weight, state, loss)]
    del model, optimizer, state, loss
    return lived, [r() is None for r in refs], [s.expired() for s in storages]


gc.collect()
gc.disable()
for number in range(TURNS):
    died = turn()
    if number in (0, TURNS - 1):
        print(number, died)
    if number == TURNS // 2:
        # What torch itself leaves to the collector is no part of the comparison.
        gc.collect()
        objects, memory = len(gc.get_objects()), resident_mib()
gc.collect()
more_objects, more_memory = len(gc.get_objects()) - objects, resident_mib() - memory
turns = TURNS - TURNS // 2
assert more_objects < 20 * turns, f"{more_objects} objects more after {turns} models"
assert more_memory < 16, f"{more_memory} MiB more after {turns} models of 2 MiB"
proof.end()
