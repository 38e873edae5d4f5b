"""What a Python sees of our sitecustomize: nothing, whatever of its own it has or lacks."""

import json
import os
import subprocess
import sys
import venv

import pytest

from vramtop.inject import launcher

SHOW = """
import json, sys
from os import environ
own = sys.modules.get("sitecustomize")
print(json.dumps({
    "path": sys.path,
    "flag": getattr(sys, "customized", None),
    "file": getattr(own, "__file__", None),
    "name": getattr(own, "__name__", None),
}))
"""


def execute(python, environment, *arguments, **kwargs):
    command = [str(python), *(arguments or ("-c", SHOW))]
    return subprocess.run(command, env=environment, capture_output=True, text=True, **kwargs)


def customize(directory, text="import sys; sys.customized = 'by the user'\n"):
    directory.mkdir(exist_ok=True)
    (directory / "sitecustomize.py").write_text(text)
    return directory


@pytest.fixture
def same(stub, plain_environment):
    """Runs a Python with and without our sitecustomize; what it shows has to be the same."""

    def same(python=sys.executable, *arguments, pythonpath=None, booted=True, **kwargs):
        environment = dict(plain_environment)
        if pythonpath is not None:
            environment["PYTHONPATH"] = pythonpath
        without = execute(python, environment, *arguments, **kwargs)
        assert not stub.booted()
        with_ours = execute(python, stub.environment(environment), *arguments, **kwargs)
        assert with_ours.stdout == without.stdout
        assert with_ours.stderr == without.stderr
        assert with_ours.returncode == without.returncode
        assert len(stub.booted()) == (1 if booted else 0)
        return without

    return same


@pytest.mark.parametrize("pythonpath", [None, "", ":", "src:/nonexistent:", "src:src"])
def test_the_path_is_what_it_would_have_been(same, pythonpath, tmp_path):
    (tmp_path / "src").mkdir()
    shown = json.loads(same(pythonpath=pythonpath, cwd=tmp_path).stdout)
    assert shown["file"] is None or "vramtop" not in shown["file"]


def test_the_users_own_on_pythonpath_runs_as_it_would(same, tmp_path):
    own = customize(tmp_path / "own")
    shown = json.loads(same(pythonpath=str(own)).stdout)
    assert shown["flag"] == "by the user"
    assert shown["file"] == str(own / "sitecustomize.py")
    assert shown["name"] == "sitecustomize"


def test_the_first_of_several_wins(same, tmp_path):
    first, second = customize(tmp_path / "a", ""), customize(tmp_path / "b")
    shown = json.loads(same(pythonpath=f"{first}:{second}").stdout)
    assert shown["file"] == str(first / "sitecustomize.py")


def test_one_in_an_environment_without_vramtop(same, tmp_path):
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    there = execute(python, dict(os.environ), "-c", "import vramtop", cwd=tmp_path)
    assert "No module named 'vramtop'" in there.stderr
    same(python)


def test_one_in_site_packages_of_an_environment(same, tmp_path):
    venv.create(tmp_path / "venv", symlinks=True)
    packages = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    customize(packages)
    shown = json.loads(same(tmp_path / "venv" / "bin" / "python").stdout)
    assert shown["file"] == str(packages / "sitecustomize.py")


@pytest.mark.parametrize(
    "text",
    [
        "raise RuntimeError('mine')",
        "import nonexistent_module",
        "raise ImportError('no such', name='sitecustomize')",
        "def broken(:",
    ],
)
def test_errors_of_the_users_own_look_as_they_would(same, tmp_path, text):
    own = customize(tmp_path / "own", text + "\n")
    same(pythonpath=str(own))


@pytest.mark.parametrize(
    "text",
    ["raise RuntimeError", "def broken(:", "raise SystemExit(9)", "import nonexistent", ""],
)
def test_a_broken_probe_is_not_seen(same, stub, text):
    stub.boot.write_text(text + "\n")
    same(booted=False)


def test_an_import_of_it_by_a_program_finds_none(same):
    done = same(sys.executable, "-c", "import sitecustomize")
    system_wide = "ModuleNotFoundError" not in done.stderr
    assert system_wide == (done.returncode == 0)


@pytest.mark.parametrize("arguments", [["-m", "vramtop.mine"], ["-c", "import vramtop.mine"]])
def test_another_vramtop_in_the_working_directory_stays_itself(same, tmp_path, arguments):
    (tmp_path / "vramtop").mkdir()
    (tmp_path / "vramtop" / "__init__.py").touch()
    (tmp_path / "vramtop" / "mine.py").write_text("import vramtop; print(vramtop.__file__)\n")
    done = same(sys.executable, *arguments, cwd=tmp_path)
    assert done.stdout.strip() == str(tmp_path / "vramtop" / "__init__.py")


@pytest.mark.parametrize("flag", ["-I", "-E", "-S"])
def test_where_python_ignores_us_there_is_simply_no_probe(stub, plain_environment, flag):
    done = execute(sys.executable, stub.environment(plain_environment), flag, "-c", "print(1)")
    assert (done.stdout, done.stderr, stub.booted()) == ("1\n", "", [])


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.8", "3.9", "3.10", "3.12", "3.13", "3.14"])
def test_other_pythons(same, version, other_python):
    python = other_python(version)
    new_enough = tuple(map(int, version.split("."))) >= (3, 9)
    same(python, booted=new_enough)


def test_a_process_without_torch_loads_next_to_nothing(plain_environment):
    show = "import sys; print(*sys.modules)"
    without = execute(sys.executable, plain_environment, "-c", show)
    environment = launcher.environment(plain_environment)
    with_probe = execute(sys.executable, environment, "-c", show)
    new = set(with_probe.stdout.split()) - set(without.stdout.split())
    own = {"_vramtop_injected", "_vramtop_injected.probe", "_vramtop_injected.probe.boot"}
    assert new - {"__future__"} == own
