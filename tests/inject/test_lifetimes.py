"""Nothing of the training lives longer for being watched: not a tensor, in no step.

Large tensors on purpose: their steps are slow enough for the probe's thread to run in the middle
of an operation, where whatever it asks of the other thread's frames would keep their locals.
"""

from __future__ import annotations

import sys
import threading

SCRIPT = """
import gc, sys
import torch
torch.manual_seed(0)
torch.set_num_threads(1)
model = torch.nn.Sequential(
    torch.nn.Linear(256, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 1024), torch.nn.ReLU(),
    torch.nn.Linear(1024, 10),
)
optimizer = torch.optim.AdamW(model.parameters())
gc.disable()
print("begin", flush=True)
for step in range(14):
    loss = model(torch.randn(4096, 256)).logsumexp(1).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    tensors = [item for item in gc.get_objects() if issubclass(type(item), torch.Tensor)]
    alive = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    del tensors
    print(step, sum(alive.values()), flush=True)
"""


def test_no_tensor_lives_longer(start, make_environment, connect, wait_for, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    plain = start(
        [sys.executable, script], under_run=False, env=make_environment(tmp_path / "plain")
    )
    expected, _ = plain.communicate(timeout=120)
    environment = make_environment(tmp_path / "run")
    watched = start([sys.executable, script], env=environment)
    try:
        assert watched.stdout.readline() == b"begin\n"
        (path,) = wait_for(lambda: list((tmp_path / "run").glob("[0-9]*.sock")), what="the socket")
        viewer = connect(path)
        viewer.subscribe()
        details = []
        reading = threading.Thread(target=read_to_the_end, args=(viewer, details), daemon=True)
        reading.start()
        output, errors = watched.communicate(timeout=120)
    finally:
        watched.kill()
    assert errors == b""
    assert details, "the positive control: a step was recorded"
    assert output == expected.split(b"\n", 1)[1]


def read_to_the_end(viewer, details):
    try:
        while True:
            details.append(viewer.until("detail"))
    except (OSError, EOFError, AssertionError):
        return
