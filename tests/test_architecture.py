"""What a linter cannot see: which modules are really loaded, how long files are, that the
registries are complete.
"""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import vramtop
from vramtop.cli import COMMANDS

PACKAGE = Path(vramtop.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def loaded_after(code):
    """Top-level names in sys.modules after running code in a fresh interpreter."""
    program = f"import sys\n{code}\nprint(*{{m.partition('.')[0] for m in sys.modules}})"
    return set(
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_import_vramtop_loads_no_third_party_module():
    new = loaded_after("import vramtop") - loaded_after("")
    assert new <= {"vramtop"} | set(sys.stdlib_module_names)


def test_the_app_never_loads_torch_nor_numpy():
    loaded = loaded_after("import vramtop.tui.app, vramtop.sources.collector, vramtop.cli.monitor")
    assert not loaded & {"torch", "transformers", "numpy"}


def test_one_shot_output_never_loads_textual():
    loaded = loaded_after(
        "import io, contextlib\n"
        "from vramtop.cli import run_command\n"
        "with contextlib.redirect_stdout(io.StringIO()): run_command(['--once', '--json'])"
    )
    assert not loaded & {"textual", "rich", "torch"}


def test_the_probe_loads_nothing_but_the_standard_library():
    new = loaded_after("import vramtop.probe.api, vramtop.probe.boot") - loaded_after("")
    assert new <= {"vramtop"} | set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_has_one_purpose_and_says_it(path):
    text = path.read_text()
    limit = 250 if path.relative_to(PACKAGE) == Path("tui/app.py") else 400
    assert len(text.splitlines()) <= limit
    assert ast.get_docstring(ast.parse(text)), "the first line says what belongs here"


def test_the_public_names_exist():
    for name in vramtop.__all__:
        assert getattr(vramtop, name)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_keeps_the_contract(name):
    module = importlib.import_module(f"vramtop.cli.{name}")
    assert name == module.NAME
    assert module.HELP.endswith(".")
    assert module.EXAMPLE.startswith("vramtop")
    shown = subprocess.run(
        [sys.executable, "-m", "vramtop", *([] if name == COMMANDS[0] else [name]), "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"example: {module.EXAMPLE}" in shown.stdout
