"""The measured side of ``probe_cost``: one training that takes its steps with the probe or without.

``python -m tests.bench.cost_training MODEL PAIRS DEVICE`` loads the probe as injection does, says
"ready", and for each line it reads it measures and prints one JSON object of raw times.

A step "without" has none of the probe's hooks in place. A step in which the probe does more than
hear its hooks (it counts, or it records), and some after it, are an event: no step is taken without
the hooks until it is over, so nothing of its cost falls into the wrong half. Counts come by the
clock, whatever kind of step it finds, so that their share is of all the time that has passed.
Recordings come too rarely to be known from a minute, and are made to come more often; with each the
probe says how rarely it would come.
"""

import json
import random
import sys
import threading
import time
import types
from _thread import get_ident
from pathlib import Path

ROOT = "_vramtop_injected"
PROBE = f"{ROOT}.probe"
PACKAGE = Path(__file__).parents[2] / "vramtop"
WARM_UP_S = 3.0
RECORDED_EVERY = 80
"""Pairs."""
QUIET_STEPS = 2
"""Steps without any doing of the probe's that end an event: what a sampled step leaves in caches
and free lists is its cost too."""
BARE_PAIRS = 0.25
"""The share of pairs without hooks in either half: what they differ by is the machine's noise."""


def load_probe():
    """The probe as ``vramtop run`` loads it: before torch, under a private name."""
    root = types.ModuleType(ROOT)
    root.__path__ = [str(PACKAGE)]
    sys.modules[ROOT] = root
    from _vramtop_injected.probe import boot

    boot.install()


class Switch:
    """Takes the probe's hooks out of torch and of a model, and puts them back."""

    def __init__(self, model):
        import torch.optim.optimizer as optimizers

        self._places = [
            optimizers._global_optimizer_pre_hooks,
            optimizers._global_optimizer_post_hooks,
            model._forward_pre_hooks,
            model._forward_hooks,
        ]
        self._hooks = [dict(place) for place in self._places]
        assert all(self._hooks), "the probe has not found the training"

    def set(self, on):
        """With the hooks, or without."""
        for place, hooks in zip(self._places, self._hooks, strict=True):
            place.clear()
            if on:
                place.update(hooks)


class Doings:
    """What the probe does on the training thread beside hearing its hooks: counts, recordings."""

    def __init__(self, session):
        import torch

        self._dispatch_modes = torch._C._len_torch_dispatch_stack
        self._session = session
        self._counts = 0
        self.recorded = False
        """Whether operations were looked at in any step since this was last made False."""
        thread, spend = get_ident(), session.pace.spend

        def counted_spend(now, cost_s):
            self._counts += get_ident() == thread
            spend(now, cost_s)

        session.pace.spend = counted_spend

    def since_last(self):
        """Whether there were any since the last call, or one is under way."""
        recording = self._dispatch_modes() > 0
        self.recorded |= recording
        busy = self._counts > 0 or recording
        self._counts = 0
        return busy

    def begin_recording(self):
        """Have the next step recorded, if somebody watches."""
        period_s = self._session.pace.watched_period_s
        if period_s is not None:
            self._session.observer.detail_pace._slot = None
            self._session.watched(period_s)

    def recording_period_s(self):
        """How long the probe means to wait from one recording to the next."""
        return self._session.observer.detail_pace._slot_s


class Measurement:
    """Pairs of steps, and events."""

    def __init__(self, step, switch, doings):
        self._step, self._switch, self._doings = step, switch, doings
        self._dice = random.Random(1)
        (server,) = (t.ident for t in threading.enumerate() if t.name == "vramtop-probe")
        clock = time.pthread_getcpuclockid(server)
        self._served_s = lambda: time.clock_gettime(clock)

    def run(self, count):
        """So many pairs, bare ones among them, and the events that came between."""
        self._switch.set(True)
        while self._doings.since_last():
            self._step()
        self._doings.recorded = False
        pairs, bare, events = [], [], []
        began, served = time.perf_counter(), self._served_s()
        for number in range(count):
            if number % RECORDED_EVERY == RECORDED_EVERY // 2:
                self._doings.begin_recording()
            if self._dice.random() < BARE_PAIRS:
                bare.append((self._one(False), self._one(False)))
                continue
            got = {}
            for on in self._dice.sample((True, False), 2):
                got[on] = self._one(on)
                if on and self._doings.since_last():
                    events.append((len(pairs), *self._event(got[on])))
                    break
            else:
                pairs.append((got[True], got[False]))
        seconds = time.perf_counter() - began
        self._switch.set(True)
        return {
            "pairs": pairs,
            "bare": bare,
            "events": events,
            "seconds": seconds,
            "server_share": (self._served_s() - served) / seconds,
        }

    def _one(self, on):
        self._switch.set(on)
        began, cpu = time.perf_counter(), time.thread_time()
        self._step()
        return time.perf_counter() - began, time.thread_time() - cpu

    def _event(self, first):
        steps, quiet = [first], 0
        while quiet < QUIET_STEPS:
            steps.append(self._one(True))
            quiet = 0 if self._doings.since_last() else quiet + 1
        wall, cpu = (sum(step[which] for step in steps) for which in (0, 1))
        recorded, self._doings.recorded = self._doings.recorded, False
        return wall, cpu, len(steps), self._doings.recording_period_s() if recorded else None


def main(model_name, count, device):
    """For each line read: warm up, measure, print."""
    load_probe()
    from tests.bench.models import training

    model, step = training(model_name, device)
    session = sys.modules[f"{PROBE}.session"].session()
    measurement = None
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        while (
            time.perf_counter() - began < WARM_UP_S
        ):  # first steps are sampled, the viewer arrives
            step()
        if measurement is None:
            measurement = Measurement(step, Switch(model), Doings(session))
        print(json.dumps(measurement.run(count)), flush=True)
        assert not session.faults.messages, session.faults.messages


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
