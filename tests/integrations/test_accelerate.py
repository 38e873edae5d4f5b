"""The example for Accelerate, as users run it."""

from pathlib import Path

import pytest

pytest.importorskip("accelerate")

EXAMPLE = Path(__file__).parents[2] / "examples" / "accelerate_training.py"
LAUNCH = (
    *("-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--cpu"),
)


def test_the_example_is_explained_by_its_one_line(start, watch, tmp_path):
    lines = EXAMPLE.read_text().splitlines(keepends=True)
    without = tmp_path / "without.py"
    without.write_text("".join(line for line in lines if "vramtop" not in line.split('"')[0]))
    assert len(lines) - len(without.read_text().splitlines()) >= 2
    plain = start([without, "--steps", "200"])
    told = start([*LAUNCH, EXAMPLE, "--steps", "100000"])
    (probe,) = watch(told).values()
    assert [model.class_name for model in probe.models] == ["Sequential"]
    assert [optimizer.class_name for optimizer in probe.optimizers] == ["AdamW"], "not its shell"
    assert probe.problem is None
    out, _ = plain.communicate(timeout=60)
    assert out.count(b"loss") == 2
    assert [told.stdout.readline() for _ in range(2)] == out.splitlines(keepends=True)
