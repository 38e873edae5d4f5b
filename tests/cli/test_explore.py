"""``vramtop explore`` as its user has it: text, JSON, a line for every mistake, the screen."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

from tests.stack.screen import Screen
from vramtop.cli import run_command
from vramtop.estimator import closed
from vramtop.estimator.catalog import find_gpu, find_model
from vramtop.estimator.workload import Workload

FORMULA = ("--method", "closed-form")


def said(capsys, *arguments):
    """(exit code, stdout, stderr) of a command line."""
    code = run_command(["explore", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_once_prints_the_answer_with_its_curve(capsys):
    code, out, err = said(capsys, "gpt2", "--batch", "8", "--gpu", "t4", *FORMULA, "--once")
    assert code == 0
    assert err == ""
    assert "OOM" in out
    assert "max micro-batch at 1,024 tokens on T4" in out
    assert max(map(len, out.splitlines())) <= 100


def test_once_as_json_says_what_the_formula_says(capsys):
    code, out, _ = said(capsys, "gpt2", "--seq", "512", *FORMULA, "--once", "--json")
    assert code == 0
    answer = json.loads(out)
    workload = Workload(find_model("gpt2"), sequence=512, device=find_gpu("4090"))
    footprint = closed.predictor(workload).at(1)
    assert answer["totals"]["process_bytes"] == footprint.process_bytes
    assert answer["device"]["name"].endswith("RTX 4090"), "the default"
    assert answer["verdict"] == "fits"


def test_without_a_terminal_it_is_printed_and_a_line_says_so(capsys):
    code, out, err = said(capsys, "gpt2", *FORMULA)
    assert code == 0
    assert re.fullmatch(r"vramtop: standard \w+ is not a terminal; .*--once.*\n", err)
    assert "max micro-batch" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "MODEL"),
        (("nonesuch-7b",), "no model 'nonesuch-7b'"),
        (("gpt2", "--json"), "--json needs --once"),
        (("gpt2", "--method", "seed"), "no method 'seed'; there are: auto, trace, closed-form"),
        (("gpt2", "--gpu", "quantum"), "no GPU 'quantum'"),
        (("gpt2", "--seq", "5000"), "at most 1024 tokens"),
        (("gpt2", "--precision", "nf4"), "add --lora RANK"),
        (("gpt2", "--batch", "0"), "--batch 0: it must be 1 or more"),
        (("gpt2", "--seed-tables"), "unrecognized arguments"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, words):
    code, out, err = said(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def test_help_has_an_example(capsys):
    code, out, _ = said(capsys, "--help")
    assert code == 0
    assert "example: vramtop explore llama-2-7b" in out
    assert "--once" in out


def test_it_is_listed_among_the_commands(capsys):
    run_command(["--help"])
    assert "vramtop explore" in capsys.readouterr().out


def environment(tmp_path):
    state = {"XDG_STATE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    return {**state, "XDG_CACHE_HOME": str(tmp_path)}


def test_the_screen_in_a_real_terminal(tmp_path):
    arguments = ("explore", "gpt2", "--batch", "4", "--gpu", "t4", *FORMULA)
    with Screen(*arguments, env=environment(tmp_path), columns=80, rows=24) as screen:
        screen.wait_for("what if", "FITS", "largest micro-batch")
        screen.send("\x1b[B")  # down, to the batch
        screen.send("900")
        screen.wait_for("OUT OF MEMORY", "too much", "900▏")
        screen.send("\x1b[1;2D")  # shift+left: half
        screen.wait_for(" 448 ")
        screen.send("u")
        screen.wait_for("undone: micro-batch")
        screen.send("\x1b[<0;5;9M\x1b[<0;5;9m")  # the mouse, on attention
        screen.wait_for("▌ attention")
        screen.send("\t\x1b[B\x1b[A\r")  # in one go: to the advice, and take the first piece
        screen.wait_for("of what is allocated")
        screen.send("q")
        assert screen.exit_code() == 0
        assert b"\x1b[?1049l" in screen.received


def test_ctrl_c_leaves_while_a_trace_is_made(tmp_path):
    pytest.importorskip("transformers")
    arguments = ("explore", "gpt2", "--seq", "64")
    with Screen(*arguments, env=environment(tmp_path), columns=100, rows=30) as screen:
        screen.wait_for("formula ·")
        began = time.monotonic()
        screen.send("\x03")
        assert screen.exit_code() == 0
        assert time.monotonic() - began < 5


def test_the_screen_loads_neither_torch_nor_numpy(tmp_path):
    """Also where they are installed: the tracer is a process of its own."""
    program = """
import asyncio, sys
from vramtop.estimator.catalog import find_gpu, find_model
from vramtop.estimator.workload import Workload
from vramtop.tui.explore_app import ExploreApp
async def main():
    workload = Workload(find_model("gpt2"), sequence=64, device=find_gpu("4090"))
    app = ExploreApp(workload)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("down", "right", "tab", "enter", "b", "escape")
    loaded = {name.partition(".")[0] for name in sys.modules}
    print(sorted(loaded & {"torch", "transformers", "numpy", "peft"}))
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment(tmp_path)},
    )
    assert done.stdout.strip() == "[]"
