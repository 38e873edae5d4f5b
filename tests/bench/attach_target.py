"""A deterministic training in one of several situations, to be attached to; any Python ≥ 3.9.

``python attach_target.py SITUATION STEPS``: prints every loss exactly, ends after so many steps or
when standard input ends, then prints when its own clock thread stood still. The losses are the
same in every situation: what differs is where the main thread is between two steps. Without torch
the training is a small one in plain Python. Read as text by the driver and passed to ``-c``: the
interpreter may live in another root directory.
"""

import hashlib
import json
import random
import select
import sys
import threading
import time

try:
    import torch
except ImportError:
    torch = None

CALL_S = 2.0
"""How long one call into C lasts in the situation of that name."""
SLEEP_S = 0.2
BEAT_S = 0.005
GAP_S = 0.02
"""A beat that comes later than this is told."""
EPOCH_STEPS = 10


def torch_training():
    """A function from a batch to its loss, after one step."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(256, 10)
    )
    optimizer = torch.optim.AdamW(model.parameters())

    def step(batch):
        x, y = batch
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def torch_batch(number):
    """The same batch for the same number, wherever it is made."""
    dice = torch.Generator().manual_seed(number)
    return torch.randn(32, 64, generator=dice), torch.randint(10, (32,), generator=dice)


def plain_training():
    """Logistic regression by stochastic gradient descent."""
    weights = [0.0] * 16
    dice = random.Random(1)

    def step(batch):
        x, y = batch
        kept = [value if dice.random() > 0.1 else 0.0 for value in x]
        off = sum(w * value for w, value in zip(weights, kept)) - y  # noqa: B905  Python 3.9
        for i, value in enumerate(kept):
            weights[i] -= 0.01 * off * value
        return off * off

    return step


def plain_batch(number):
    """The same batch for the same number."""
    dice = random.Random(number)
    return [dice.gauss(0.0, 1.0) for _ in range(16)], dice.random()


make_batch = torch_batch if torch else plain_batch


class Samples:
    """What the workers of a DataLoader load, slowly."""

    def __len__(self):
        return EPOCH_STEPS

    def __init__(self, first):
        self.first = first

    def __getitem__(self, index):
        time.sleep(0.04)
        return make_batch(self.first + index)


def loaded_batches():
    """Batches from two workers, which are made anew every epoch."""
    first = 0
    while True:
        loader = torch.utils.data.DataLoader(
            Samples(first),
            batch_size=None,
            num_workers=2,
            generator=torch.Generator().manual_seed(0),  # the training's own is left alone
            multiprocessing_context="fork",  # the class has no module that another could import
        )
        yield from loader
        first += EPOCH_STEPS


def own_batches():
    """Batches made between the steps."""
    number = 0
    while True:
        yield make_batch(number)
        number += 1


def rounds(call, few):
    """How many rounds of a call last ``CALL_S``; it is linear in them."""
    call(few)
    began = time.perf_counter()
    call(few)
    return int(few * CALL_S / (time.perf_counter() - began))


def long_calls():
    """Calls into C that take seconds: one that holds the interpreter's lock, one that does not."""

    def held(count):
        sum(range(count))

    def released(count):
        if torch:
            torch.ones(count, 1000) @ torch.ones(1000, 1000)
        else:
            hashlib.pbkdf2_hmac("sha256", b"", b"", count)

    many_held, many_released = rounds(held, 3_000_000), rounds(released, 1000 if torch else 50_000)
    while True:
        yield held(many_held)
        yield released(many_released)


def allocate(dice):
    """Take memory of all sizes and give it back."""
    kept = [bytearray(dice.randrange(1, 200_000)) for _ in range(50)]
    kept.append({str(i): [i] * 3 for i in range(300)})
    if torch:
        kept += [torch.empty(dice.randrange(1, 5000)) for _ in range(20)]
    del kept[:: dice.randrange(1, 4)]


def keep_allocating(ended):
    """What a thread does in the situation malloc."""
    dice = random.Random(4)
    while not ended.is_set():
        allocate(dice)


def beat(gaps, ended):
    """Note when this thread was not run on time."""
    last = time.monotonic()
    while not ended.is_set():
        time.sleep(BEAT_S)
        now = time.monotonic()
        if now - last > GAP_S:
            gaps.append((last, now))
        last = now


def main(situation, steps):
    """Train in the situation until told to end."""
    step = (torch_training if torch else plain_training)()
    batches = loaded_batches() if torch and situation == "dataloader" else own_batches()
    calls = long_calls() if situation == "c-call" else None
    dice, gaps, ended = random.Random(5), [], threading.Event()
    threads = [threading.Thread(target=beat, args=(gaps, ended), daemon=True)]
    if situation == "malloc":
        threads += [threading.Thread(target=keep_allocating, args=(ended,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number, batch in enumerate(batches, 1):
        print(number, step(batch).hex(), flush=True)
        if number == steps or select.select([sys.stdin], [], [], 0)[0]:
            break
        if situation == "busy":
            sum(i * i for i in range(50_000))
        elif situation == "sleep":
            time.sleep(SLEEP_S)
        elif situation == "c-call":
            next(calls)
        elif situation == "malloc":
            allocate(dice)
    ended.set()
    for thread in threads:
        thread.join()
    print("gaps", json.dumps(gaps), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
