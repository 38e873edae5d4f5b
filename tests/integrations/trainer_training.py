"""A tiny transformers Trainer until the file in argv[1] appears; prints the first losses.

argv[2:] may be "callback" and "resume"; checkpoints go beside the file.
"""

import os
import sys
import time
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

LOSSES = 12
stop, words = Path(sys.argv[1]), sys.argv[2:]
torch.set_num_threads(1)
torch.manual_seed(0)


class Ending(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.global_step >= LOSSES and stop.exists():
            control.should_training_stop = True
        time.sleep(0.01)


class Told(Trainer):
    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        if self.state.global_step < LOSSES:
            print("loss", self.state.global_step, loss.item().hex(), flush=True)
        return loss


callbacks = [Ending()]
if "callback" in words:
    from vramtop.integrations.transformers import VramtopCallback

    callbacks.append(VramtopCallback())
tokens = torch.randint(100, (64, 16))
data = [{"input_ids": row, "labels": row} for row in tokens]
trainer = Told(
    GPT2LMHeadModel(GPT2Config(vocab_size=100, n_positions=32, n_embd=64, n_layer=2, n_head=2)),
    TrainingArguments(
        str(stop.parent / "checkpoints"),
        use_cpu=True,
        per_device_train_batch_size=4,
        max_steps=100_000,
        eval_strategy="steps",
        eval_steps=5,
        save_steps=10,
        save_total_limit=1,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        torch_compile="compile" in words,
        torch_compile_backend="eager" if "compile" in words else None,
        ddp_backend="gloo" if "RANK" in os.environ else None,
    ),
    train_dataset=data,
    eval_dataset=data[:8],
    callbacks=callbacks,
)
trainer.train(resume_from_checkpoint="resume" in words)
