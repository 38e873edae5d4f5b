"""A tiny Lightning training until the file in argv[1] appears; prints the first losses.

argv[2] is the package's name; argv[3:] may be "callback", "ddp", "own" (the module's own layers).
"""

import importlib
import sys
import time
from pathlib import Path

import torch
from torch import nn

LOSSES = 12
stop, package, words = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
pl = importlib.import_module(package)
torch.set_num_threads(1)
torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 8))

    def forward(self, inputs):
        return self.layers(inputs)


class Task(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = Net()
        if "own" in words:
            self.scale = nn.Parameter(torch.ones(8))

    def loss(self, batch):
        inputs, labels = batch
        outputs = self.net(inputs)
        if "own" in words:
            outputs = outputs * self.scale
        return nn.functional.cross_entropy(outputs, labels)

    def training_step(self, batch, index):
        loss = self.loss(batch)
        if self.global_step < LOSSES:
            print("loss", self.global_step, loss.item().hex(), flush=True)
        if self.global_step >= LOSSES and stop.exists():
            self.trainer.should_stop = True
        time.sleep(0.01)
        return loss

    def validation_step(self, batch, index):
        self.loss(batch)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())


callbacks = []
if "callback" in words:
    from vramtop.integrations.lightning import VramtopCallback

    callbacks.append(VramtopCallback())
data = torch.utils.data.TensorDataset(torch.randn(64, 64), torch.randint(8, (64,)))
loader = torch.utils.data.DataLoader(data, batch_size=8)
trainer = pl.Trainer(
    accelerator="cpu",
    devices=2 if "ddp" in words else 1,
    strategy="ddp" if "ddp" in words else "auto",
    max_epochs=-1,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    callbacks=callbacks,
)
trainer.fit(Task(), loader, loader)
