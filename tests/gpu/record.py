"""Writes what a viewer is told of one training to a file, a JSON message a line.

``python -m tests.gpu.record FILE [--device cuda|cpu] [--seconds 10]``: what comes of a card is kept
as a fixture, so that it can be read where there is none.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.probe.conftest import PREAMBLE, RawViewer, find_socket

TRAINING = """
import sys
import torch
from torch import nn

device = sys.argv[1]
model = nn.Sequential(*(nn.Sequential(nn.Linear(512, 512), nn.GELU()) for _ in range(6))).to(device)
optimizer = torch.optim.AdamW(model.parameters())
while True:
    x = torch.randn(256, 512, device=device)
    model(x).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


def record(path: Path, device: str, seconds: float) -> int:
    """Run the training for that long; gives the number of messages written."""
    with tempfile.TemporaryDirectory(prefix="vt-", dir="/tmp") as folder:
        script = Path(folder) / "train.py"
        script.write_text(PREAMBLE + TRAINING)
        environment = {**os.environ, "VRAMTOP_RUNTIME_DIR": folder}
        with subprocess.Popen([sys.executable, str(script), device], env=environment) as training:
            try:
                viewer = RawViewer(find_socket(folder, training.pid), period_s=0.5, history=True)
                messages = [viewer.hello, *_messages(viewer, seconds)]
                viewer.close()
            finally:
                training.kill()
    path.write_text("".join(json.dumps(message) + "\n" for message in messages))
    return len(messages)


def _messages(viewer: RawViewer, seconds: float):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield viewer.read()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    count = record(arguments.file, arguments.device, arguments.seconds)
    print(f"{count} messages in {arguments.file}")


if __name__ == "__main__":
    main()
