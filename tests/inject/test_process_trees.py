"""The probe reaches every Python below a command, however it was started."""

import subprocess
import sys

import pytest

SPAWN = """
import multiprocessing, os, sys
def work(results):
    results.put(os.getpid())
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    results = context.Queue()
    child = context.Process(target=work, args=(results,))
    child.start()
    print(results.get())
    child.join()
"""


@pytest.fixture
def tree(stub, plain_environment, tmp_path):
    def tree(*command):
        done = subprocess.run(
            list(map(str, command)),
            env=stub.environment(plain_environment),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return [int(word) for word in done.stdout.split()]

    return tree


def test_a_chain_of_processes(tree, stub):
    inner = "import os; print(os.getpid())"
    middle = (
        f"import os, subprocess, sys; print(os.getpid(), flush=True); "
        f"subprocess.run(['sh', '-c', sys.argv[1] + \" -c '{inner}'\"])"
    )
    assert tree("sh", "-c", '"$0" -c "$1" "$0"', sys.executable, middle) == stub.booted()


def test_a_wrapper_script_and_a_module(tree, stub, tmp_path):
    (tmp_path / "train.py").write_text("import os; print(os.getpid())\n")
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f"#!/bin/sh\nexec {sys.executable} -m train\n")
    wrapper.chmod(0o755)
    assert tree(wrapper) == stub.booted()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_multiprocessing(tree, stub, tmp_path, method):
    (tmp_path / "train.py").write_text(SPAWN)
    (child,) = tree(sys.executable, "train.py", method)
    if method == "spawn":
        assert child in stub.booted()
    else:  # the server has booted the probe; its forks have it by inheritance
        assert len(stub.booted()) >= 2
