"""Every kind of training that is tried: a script of ``scripts/``, its arguments, what it needs."""

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).with_name("scripts")


@dataclass(frozen=True)
class Scenario:
    """One script with its arguments."""

    script: str
    arguments: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    """Modules without which it cannot run, and ``cuda``."""
    pause_s: float | None = None
    """Slept a step when watched, so that the probe finds a few seconds at its own pace; without
    it every step is recorded in detail."""
    cold: bool = False
    """Whether how the interpreter starts or ends is part of what is compared."""

    @property
    def name(self):
        return " ".join((self.script, *self.arguments))

    @property
    def command(self):
        return [str(SCRIPTS / f"{self.script}.py"), *self.arguments]

    def why_not(self):
        """Why it cannot run here, None if it can."""
        reasons = (_why_no_cuda() if name == "cuda" else _why_no(name) for name in self.needs)
        return next(filter(None, reasons), None)


def _why_no(module):
    return None if importlib.util.find_spec(module) else f"{module} is not installed"


@functools.cache
def _why_no_cuda():
    import torch

    if torch.version.cuda is None:
        return "torch is a CPU build"
    return None if torch.cuda.is_available() else "torch finds no usable GPU"


def _scenarios():
    def add(script, *arguments, **options):
        found.append(Scenario(script, arguments, **options))

    found = []
    add("plain_loop", "AdamW", "none", pause_s=0.03)
    add("plain_loop", "SGD", "zeros")
    add("autocast", "bfloat16", pause_s=0.03)
    add("autocast", "float16")
    add("checkpointing", "reentrant", "plain", pause_s=0.03)
    add("checkpointing", "not", "plain")
    add("checkpointing", "not", "autocast")
    add("compiled", "module", "inductor", pause_s=0.03)
    for what in ("method", "function", "inner", "late"):
        add("compiled", what, "aot_eager")
    for kind in ("ddp", "ddp-views", "fsdp2"):
        add("ranks", kind, pause_s=0.06, cold=True)
    add("accumulation")
    add("several_optimizers")
    add("adversarial")
    add("lora", "module")
    add("lora", "peft", needs=("peft", "transformers"))
    add("frozen")
    add("channels_last")
    add("sparse")
    add("models_in_turn", pause_s=0.02)
    add("other_thread", "1", pause_s=0.03)
    add("other_thread", "3")
    add("evaluation", pause_s=0.03)
    add("generation", "gpt2", "trained", needs=("transformers",))
    # Without an optimizer it is searched for, 5 and 15 s after somebody began to watch.
    add("generation", "llama", "only", needs=("transformers",), pause_s=0.15)
    add("optimizer_in_backward")
    add("saved_tensors")
    add("dispatch_modes")
    add("function_modes")
    add("profiled")
    add("functional")
    add("global_hooks")
    add("retried")
    add("interrupted", "forward", pause_s=0.03, cold=True)
    add("interrupted_anywhere")
    add("signal_handler")
    add("inference")
    add("derivatives")
    add("closures")
    add("forks")
    add("copies")
    add("subclasses")
    add("traced")
    add("scripted")
    add("changing")
    add("cuda_graphs", needs=("cuda",), pause_s=0.03)
    return tuple(found)


SCENARIOS = _scenarios()
