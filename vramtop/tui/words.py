"""What is said in words about a process, its training and its peak; several panes say it."""

from __future__ import annotations

from typing import Final

from ..core.model import Process
from ..core.units import format_percent, format_rate
from .frame import View

# As in probe/session.py, which the screen does not import: change both.
_LAUNCHERS: Final = (
    *("torchrun", "torch.distributed.run", "torch.distributed.launch"),
    *("accelerate", "accelerate-launch", "accelerate.commands.launch", "deepspeed"),
)


def how_to_get_a_probe(view: View) -> str:
    """For a process without one."""
    now = "press a to put one in; " * view.can_act
    return f"{now}next time start it with `vramtop run -- …`"


def why_no_breakdown(process: Process, view: View) -> list[str]:
    """What to do so that this process can be explained."""
    probe = process.probe
    if process.state == "gone":
        return ["the process has ended"]
    if probe.state == "none":
        return [
            f"no probe: {how_to_get_a_probe(view)}",
            "The driver's and the host's figures need none; enter shows them.",
        ]
    said = ["the probe is there and waits for the first training step"]
    if _is_launcher(process):
        said = ["a launcher, which never trains: attach to the processes that it has started"]
    return [*said, probe.problem] if probe.problem else said


def why_no_detail(process: Process) -> list[str]:
    """Why nothing is told of phases, peak and modules."""
    probe = process.probe
    if probe.detail == "off":
        return [
            "no detail: this probe samples no steps",
            *([probe.problem] if probe.problem else []),
        ]
    if probe.state != "streaming":
        return ["no detail: no step was sampled while it was watched"]
    return ["detail after the next sampled step"]


def training_facts(process: Process) -> list[str]:
    """Model, optimizer and speed, one a line."""
    probe = process.probe
    facts = []
    for model in probe.models:
        trained = model.trainable_parameters
        part = "" if trained == model.parameters else f", {_count(trained)} trained"
        facts.append(f"{model.class_name}: {_count(model.parameters)} parameters{part}")
    facts += [f"{optimizer.class_name}" for optimizer in probe.optimizers]
    if probe.step is not None:
        facts.append(f"step {step_text(probe.step, probe.steps_per_s)}")
    if probe.torch:
        facts.append(f"torch {probe.torch}" + (f", CUDA {probe.cuda}" if probe.cuda else ""))
    if probe.overhead_percent is not None:
        facts.append(f"the probe costs {format_percent(probe.overhead_percent, 2)} of a step")
    if probe.problem:
        facts.append(probe.problem)
    return facts


def _is_launcher(process: Process) -> bool:
    """By its command: the interpreter, perhaps -m, and the module or script that runs."""
    words = (process.command or "").split()[:4]
    return any(word.rpartition("/")[2] in _LAUNCHERS for word in words)


def step_text(step: int, steps_per_s: float | None) -> str:
    """The number of a step, with the speed where it is known: of an ended training it is not."""
    return f"{step}" if steps_per_s is None else f"{step} at {format_rate(steps_per_s)}"


def _count(number: int) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)
