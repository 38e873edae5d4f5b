"""Waiting for torch: cheap, invisible, and never the reason that an import fails."""

from __future__ import annotations

import json
from pathlib import Path

FAKE_TORCH = """
import pathlib, sys
site = pathlib.Path(__file__).parent / "site"
site.mkdir(exist_ok=True)
sys.path[:] = [str(site)] + [entry for entry in sys.path if "site-packages" not in entry]
def write_torch(text):
    (site / "torch.py").write_text(text)
"""
"""A module called torch that is none: how it is imported is tested, nothing can be watched."""

LOADED = """
modules = set(sys.modules) - before
import json
cost_s = min(timed(boot) for _ in range(5))
print(json.dumps([sorted(modules), cost_s, len(sys.meta_path) - finders]))
"""

BEFORE = """
import sys, time, types
def timed(boot):
    boot._finder, sys.meta_path[:] = None, [f for f in sys.meta_path if f is not boot._finder]
    began = time.perf_counter()
    boot.install()
    return time.perf_counter() - began
before, finders = set(sys.modules), len(sys.meta_path)
"""


def check_install(run, preamble, **options):
    code, out, err = run(BEFORE + preamble + LOADED, probed=False, **options)
    assert (code, err) == (0, "")
    modules, cost_s, finders = json.loads(out)
    own = [name for name in modules if not name.startswith("_vramtop_injected")]
    assert set(own) <= {"__future__"}
    assert cost_s < 0.001
    assert finders == 1


def test_install_imports_nothing_and_costs_nothing(run, preamble):
    check_install(run, preamble)


def test_python_39(run, preamble, other_python):
    python_39 = other_python("3.9")
    check_install(run, preamble, python=python_39)
    # Every module of the probe compiles and loads there; some look for torch as they load.
    names = sorted(p.stem for p in Path("vramtop/probe").glob("*.py") if p.stem != "__init__")
    fake = "sys.modules['torch'] = types.ModuleType('torch')\n"
    loads = "".join(f"import _vramtop_injected.probe.{name}\n" for name in names)
    code, out, err = run(preamble + fake + loads + "print('all')\n", probed=False, python=python_39)
    assert (code, out, err) == (0, "all\n", "")


def test_import_leaves_torch_as_without_us(run):
    code, out, err = run(
        FAKE_TORCH
        + """
write_torch("answer = 42")
import importlib, importlib.util, inspect
assert importlib.util.find_spec("torch") is not None   # only asked, as transformers does
assert any(type(f).__name__ == "_TorchFinder" for f in sys.meta_path)
import torch
kind = importlib.machinery.SourceFileLoader
assert type(torch.__loader__) is type(torch.__spec__.loader) is kind
assert "42" in inspect.getsource(torch)
assert not any(type(f).__name__ == "_TorchFinder" for f in sys.meta_path)
assert importlib.reload(torch) is torch
boot.install()
assert not any(type(f).__name__ == "_TorchFinder" for f in sys.meta_path)
print("fine")
"""
    )
    assert (code, out, err) == (0, "fine\n", "")


def test_failing_import_fails_as_without_us_and_may_be_tried_again(run):
    code, out, err = run(
        FAKE_TORCH
        + """
try:
    import torch
except ModuleNotFoundError as error:
    assert error.name == "torch"
write_torch("raise KeyError('broken build')")
try:
    import torch
except KeyError as error:
    assert error.args == ("broken build",)
write_torch("answer = 1")
importlib = __import__("importlib")
importlib.invalidate_caches()
(site / "__pycache__").exists() and __import__("shutil").rmtree(site / "__pycache__")
import torch
assert torch.answer == 1
print("fine")
"""
    )
    assert (code, out, err) == (0, "fine\n", "")


def test_other_finders_keep_their_say(run):
    code, out, err = run(
        FAKE_TORCH
        + """
import importlib.abc, importlib.util
write_torch("answer = 1")
asked = []
class Nosy(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            asked.append(name)
            if len(asked) == 1:
                importlib.util.find_spec("torch")   # asks the whole chain again
sys.meta_path.insert(0, Nosy())
sys.meta_path.insert(2, Nosy())
sys.meta_path.append(object())   # no finder at all
import torch
assert torch.answer == 1 and len(asked) >= 2
print("fine")
"""
    )
    assert (code, out, err) == (0, "fine\n", "")


def test_torch_that_was_there_first(run, preamble):
    code, out, err = run(
        "import torch\n"
        + preamble
        + """
from torch import nn
optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
optimizer.step()
probe = sys.modules["_vramtop_injected.probe.session"].session()
print(probe.observer.step(), probe.faults.messages)
assert "textual" not in sys.modules and "vramtop" not in sys.modules
""",
        probed=False,
    )
    assert (code, out, err) == (0, "1 []\n", "")
