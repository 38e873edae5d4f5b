"""Writes what the caching allocator of a card does in a training to a fixture.

``python -m tests.gpu.record_allocator``: three steps of a small GPT-2 under
torch.cuda.memory._record_memory_history, every request, release and segment in order, and the
snapshot at the end, to tests/truth/allocator-CARD.json. ``tests/estimator/test_allocator_card.py``
holds the replay against it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "truth"
KEPT = ("action", "addr", "size", "stream")


def train() -> None:
    """Three steps with all that a usual loop allocates."""
    import torch
    import transformers

    config = transformers.GPT2Config(n_embd=512, n_layer=6, n_head=8, vocab_size=20000)
    model = transformers.GPT2LMHeadModel(config).to("cuda", torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters())
    for batch in (4, 8, 6):
        ids = torch.ones(batch, 512, dtype=torch.long, device="cuda")
        outputs = model(input_ids=ids, labels=ids)
        outputs.loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def main() -> None:
    """Record and write."""
    import torch

    memory: Any = torch.cuda.memory
    memory._record_memory_history(max_entries=1_000_000, stacks="python", context=None)
    train()
    snapshot = memory._snapshot()
    memory._record_memory_history(enabled=None)
    card = torch.cuda.get_device_name(0)
    place = FOLDER / f"allocator-{re.sub('[^a-z0-9]+', '-', card.lower())}.json"
    events = [{name: event[name] for name in KEPT} for event in snapshot["device_traces"][0]]
    segments = [
        {
            "address": segment["address"],
            "total_size": segment["total_size"],
            "blocks": [[block["size"], block["state"]] for block in segment["blocks"]],
        }
        for segment in snapshot["segments"]
    ]
    answer = {"card": card, "torch": torch.__version__, "events": events, "segments": segments}
    place.write_text(json.dumps(answer) + "\n")
    print(f"{len(events)} events to {place}")


if __name__ == "__main__":
    main()
