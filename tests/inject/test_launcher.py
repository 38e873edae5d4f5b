"""What a command sees of `vramtop run`: one variable, and nothing else."""

import json
import os
import pty
import signal
import subprocess
import sys

import pytest

from vramtop.inject import launcher

SITE = str(launcher.SITE_DIRECTORY)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, SITE),
        ("", SITE),  # an empty entry would put the working directory on sys.path
        ("/a:/b", f"{SITE}:/a:/b"),
        (":/a:", f"{SITE}::/a:"),  # the user's own empty entries stay
        (f"{SITE}:/a", f"{SITE}:/a"),  # run inside run
    ],
)
def test_pythonpath(before, after):
    base = {"HOME": "/h"} if before is None else {"HOME": "/h", "PYTHONPATH": before}
    assert launcher.environment(base) == {"HOME": "/h", "PYTHONPATH": after}


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C"}, {"LC_CTYPE": "C.UTF-8"}])
def test_the_environment_gains_one_variable(locale):
    # Without a locale our own Python sets LC_CTYPE, which must not reach the command.
    plain = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    without, with_run = (
        dict(line.split(b"=", 1) for line in done.stdout.split(b"\0") if line)
        for done in [
            subprocess.run(
                [*before, "env", "-0"], env={**plain, **locale}, capture_output=True, check=True
            )
            for before in ([], [sys.executable, "-m", "vramtop", "run", "--"])
        ]
    )
    assert with_run.pop(b"PYTHONPATH").decode() == SITE
    assert with_run == without


def test_bytes_pass_both_ways(both):
    data = os.urandom(300_000)
    without, with_run = both(["cat"], stdin=data)
    assert with_run.stdout == without.stdout == data


@pytest.mark.parametrize("script", ["exit 0", "exit 7", "kill -TERM $$", "kill -KILL $$"])
def test_the_exit_status_is_the_commands(both, script):
    without, with_run = both(["sh", "-c", script])
    assert with_run.returncode == without.returncode


def test_it_is_the_same_process_with_the_same_signals(start, plain_environment):
    # sh and grep are the witnesses: a Python would ignore SIGPIPE by itself
    process = start(["sh", "-c", "echo $$; grep ^Sig /proc/self/status"], env=plain_environment)
    with_run = process.communicate()[0].decode().splitlines()
    without = subprocess.check_output(["grep", "^Sig", "/proc/self/status"], text=True)
    assert int(with_run[0]) == process.pid
    assert with_run[1:] == without.splitlines()


def test_a_reader_that_leaves_ends_the_command_quietly(start, plain_environment):
    process = start(["yes"], env=plain_environment)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(10) == -signal.SIGPIPE
    assert process.stderr.read() == b""


def test_a_terminal_stays_one():
    code = "import sys; print([f.isatty() for f in (sys.stdin, sys.stdout, sys.stderr)])"
    controller, terminal = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "vramtop", "run", sys.executable, "-c", code],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        check=True,
    )
    assert os.read(controller, 100).split(b"\r\n")[0] == b"[True, True, True]"


def test_open_files_are_handed_on():
    reader, writer = os.pipe()
    code = f"import os; os.write({writer}, b'here')"
    command = [sys.executable, "-m", "vramtop", "run", sys.executable, "-c", code]
    subprocess.run(command, pass_fds=[writer], check=True)
    os.close(writer)
    assert os.read(reader, 10) == b"here"
    os.close(reader)


def test_arguments_are_handed_on(start, plain_environment):
    arguments = ["--", "--help", "-h", "", "a b", "é"]
    code = "import json, sys; print(json.dumps(sys.argv[1:]))"
    process = start([sys.executable, "-c", code, *arguments], env=plain_environment)
    assert json.loads(process.communicate()[0]) == arguments
