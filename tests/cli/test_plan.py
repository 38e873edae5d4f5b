"""``vramtop plan`` from the command line, by the closed form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vramtop.cli import run_command

FORM = ["--method", "closed-form"]


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code = run_command(["plan", *arguments, *FORM, "--json"])
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == (0 if value["configurations"] else 1)
    return value


def test_a_7b_on_one_consumer_card(capsys: pytest.CaptureFixture[str]) -> None:
    value = plan(capsys, "llama-2-7b", "--gpu", "4090")
    assert value["schema"] == "vramtop.plan/1"
    assert value["wanted"]["effective_batch"] == 64
    assert value["wanted"]["precision"] == "amp-bf16"
    assert value["nearest"]["totals"]["process_bytes"] > value["device"]["total_bytes"]
    assert value["configurations"]
    for one in value["configurations"]:
        # Weights, gradients and states of 6.7e9 parameters are 54 GB at the least.
        assert one["departures"]
        assert one["totals"]["process_bytes"] <= value["limit_bytes"]
        assert one["micro_batch"] * one["passes"] == 64
        assert one["communication"] == []


def test_several_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    value = plan(capsys, "llama-2-7b", "--gpu", "a100-80gb", "--gpus", "4")
    unchanged = [one for one in value["configurations"] if not one["departures"]]
    assert unchanged
    assert value["configurations"][: len(unchanged)] == unchanged
    for one in value["configurations"]:
        degrees = one["data_parallel"], one["tensor_parallel"], one["pipeline_parallel"]
        assert degrees[0] * degrees[1] * degrees[2] == 4
        assert one["micro_batch"] * one["passes"] * one["data_parallel"] == 64
        assert one["sent_bytes"] == sum(item["sent_bytes"] for item in one["communication"]) > 0
        assert all(item["source"] for item in one["communication"])


def test_what_is_given_is_held(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "gpt2 --gpu 4090 --gpus 2 --zero 1 --precision bf16 --optimizer sgd --batch 4"
    value = plan(capsys, *arguments.split(), "--checkpointing", "none", "--effective-batch", "16")
    for one in value["configurations"]:
        assert one["zero"] == 1
        assert one["precision"] == "bf16"
        assert one["optimizer"] == "sgd"
        assert one["checkpointing"] == "none"
        assert one["micro_batch"] == 4


def test_options_of_a_configuration_are_options_of_estimate(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import argparse
    import shlex

    from vramtop.cli import workload_options as options

    value = plan(capsys, "llama-2-7b", "--gpu", "a100-80gb", "--gpus", "4", "--vpp", "1")
    parser = argparse.ArgumentParser()
    for add in (
        options.add_model_options,
        options.add_batch_options,
        options.add_arithmetic_options,
        options.add_parallel_options,
    ):
        add(parser)
    for one in value["configurations"]:
        args = parser.parse_args(["llama-2-7b", *shlex.split(one["options"])])
        workload = options.workload_of(args)
        assert workload.batch == one["micro_batch"]
        assert workload.parallel.data == one["data_parallel"]
        assert workload.parallel.zero == one["zero"]
        assert workload.precision == one["precision"]
        assert (workload.lora is None) == (one["lora"] is None)


def test_old_cards_have_no_bf16(capsys: pytest.CaptureFixture[str]) -> None:
    value = plan(capsys, "gpt2", "--gpu", "t4", "--effective-batch", "8")
    assert value["wanted"]["precision"] == "amp-fp16"
    assert {one["precision"] for one in value["configurations"]} <= {"amp-fp16", "int8", "nf4"}


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["plan", "gpt2", "--vram", "8GiB", "--effective-batch", "8", *FORM]) == 0
    out = capsys.readouterr().out
    assert "effective batch 8 × 1024 tokens" in out
    assert "vramtop estimate gpt2 --vram 8GiB --batch" in out
    assert "memory by the closed form" in out


def test_nothing_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["plan", "llama-3.1-405b", "--gpu", "t4", *FORM]) == 1
    assert "Nothing fits. Least is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("gpt2", "--gpu NAME or --vram SIZE"),
        ("gpt2 --gpu 4090 --effective-batch 0", "1 or more"),
        ("gpt2 --gpu 4090 --effective-batch 10 --batch 3", "no multiple"),
        ("gpt2 --gpu 4090 --micro-batches 3", "--effective-batch"),
        ("gpt2 --gpu 4090 --gpus 4 --effective-batch 3 --tp 1 --pp 1", "cannot be divided"),
        ("llama-2-7b --gpu a100-80gb --gpus 3", "63 or 66 can be had"),
        ("llama-2-7b --gpu t4 --gpus 7 --batch 4", "in micro-batches of 4"),
        ("gpt2 --gpu 4090 --gpus 4 --pp 4 --effective-batch 3", "than a pipeline of 4 has stages"),
        ("gpt2 --gpu 4090 --seq 9999", "at most 1024"),
        ("gpt2 --gpu 4090 --precision int4", "--lora"),
        ("gpt2 --gpu 4090 --gpus 4 --tp 5", "--tp"),
        ("gpt2 --gpu no-such-card", "no-such-card"),
        ("train:build --gpu 4090", "code"),
    ],
)
def test_bad_input(capsys: pytest.CaptureFixture[str], arguments: str, words: str) -> None:
    assert run_command(["plan", *arguments.split(), *FORM]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_layouts_that_do_not_divide_the_batch_leave_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # 12 layers and 12 heads: three stages, or three pieces of a head, and 64 samples each
    value = plan(capsys, "gpt2", "--gpu", "t4", "--gpus", "3")
    assert {one["data_parallel"] for one in value["configurations"]} == {1}
    assert "64 cannot be divided over 3 data-parallel GPUs" in value["notes"][0]


def test_help_says_what_is_searched(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["plan", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "(default: amp-bf16, amp-fp16 on a GPU without bf16; then bf16" in said
    assert "(default: adamw, then adamw-8bit)" in said
    assert "(default: each is tried)" in said


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["plan", "--help"]) == 0
    assert "example: vramtop plan" in capsys.readouterr().out


def test_ctrl_c_leaves_nothing_behind(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from vramtop.estimator import plan as planning

    def interrupted(*_: object, progress: Any, **__: object) -> None:
        progress("searching", 0.5)
        raise KeyboardInterrupt

    monkeypatch.setattr(planning, "search", interrupted)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run_command(["plan", "gpt2", "--gpu", "4090", *FORM]) == 130
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("\r  0 % searching\r")
    assert error.endswith("\r" + " " * len(" 50 % searching") + "\r")
