"""A callback for the Trainer of transformers.

::

    trainer = Trainer(model, args, train_dataset=data, callbacks=[VramtopCallback()])
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from .telling import OpenStage, watch_all


class VramtopCallback(TrainerCallback):  # type: ignore[misc]  # transformers is not type-checked
    """Shows a Trainer's model and optimizer; its evaluations and saves are stages."""

    def __init__(self) -> None:
        self._stage = OpenStage()
        self._is_told = False

    def on_train_begin(
        self, args: Any, _state: Any, _control: Any, model: Any = None, **more: Any
    ) -> None:
        """Watch what is about to be trained."""
        self._stage.end()
        # Only the inside of a wrapped model is handed over; with the optimizer the probe finds
        # the wrapper, too, and counts what that holds.
        is_wrapped = args.world_size > 1 or args.n_gpu > 1 or args.torch_compile
        watch_all(more.get("optimizer"), *([] if is_wrapped else [model]))
        self._is_told = True

    def on_prediction_step(self, *_: Any, model: Any = None, **_more: Any) -> None:
        """Watch a model that is evaluated without having been trained here."""
        if not self._is_told:
            self._is_told = True
            watch_all(model)

    def on_step_end(self, _args: Any, _state: Any, control: Any, **_more: Any) -> None:
        """What the step has asked for follows it: first the evaluation, then the save."""
        if control.should_evaluate:
            self._stage.begin("evaluate")
        elif control.should_save:
            self._stage.begin("save")
        else:
            self._stage.end()

    on_epoch_end = on_step_end

    def on_evaluate(self, _args: Any, _state: Any, control: Any, **_more: Any) -> None:
        """The evaluation is over; a save may follow."""
        self._stage.end()
        if control.should_save:
            self._stage.begin("save")

    def on_train_end(self, *_: Any, **_more: Any) -> None:
        """What was begun is over."""
        self._stage.end()

    on_save = on_train_end
