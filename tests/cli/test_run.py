import subprocess
import sys

import pytest


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "vramtop", "run", *arguments], capture_output=True, text=True
    )


@pytest.fixture
def file(tmp_path):
    def file(text, mode):
        path = tmp_path / "file"
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    return file


def one_line(done):
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("arguments", [[], ["--"], ["--", ""]])
def test_without_a_command_it_is_a_usage_error(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert "run needs a command" in one_line(done)


def test_an_option_of_the_command_needs_the_command_first():
    done = run("--lr", "3e-4")
    assert done.returncode == 2
    assert "usage: vramtop run [--] PROGRAM" in done.stderr


# The exit codes are those of the shell, which is asked.
@pytest.mark.parametrize("program", ["no-such-program-anywhere", "/no/such/program"])
def test_not_found(program):
    done = run(program, "x")
    assert done.returncode == subprocess.call(["bash", "-c", program], stderr=subprocess.DEVNULL)
    assert program in one_line(done)


@pytest.mark.parametrize("name", ["train.py", "./train.py"])
def test_a_script_without_its_python_is_asked_about(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert "did you mean" not in one_line(run("train.py"))
    (tmp_path / "train.py").touch()
    done = run(name, "--name", "a b")
    assert done.returncode in {126, 127}
    hint = f"; did you mean: vramtop run -- python {name} --name 'a b'"
    assert one_line(done).endswith(hint)


def test_not_executable(file):
    path = file("#!/bin/sh\n", 0o644)
    done = run(path)
    assert done.returncode == subprocess.call(["bash", "-c", path], stderr=subprocess.DEVNULL)
    assert "Permission denied" in one_line(done)


def test_a_script_whose_interpreter_is_missing(file):
    done = run(file("#!/no/such/python\n", 0o755))
    assert done.returncode == 126
    assert "interpreter" in one_line(done)


def test_a_script_without_a_first_line(file):
    done = run(file("echo hello\n", 0o755))
    assert done.returncode == 126
    assert "#!" in one_line(done)


@pytest.mark.parametrize("dashes", [[], ["--"]])
def test_with_and_without_dashes(dashes):
    done = run(*dashes, "sh", "-c", 'echo "$@"', "sh", "--", "-x")
    assert (done.returncode, done.stdout) == (0, "-- -x\n")
