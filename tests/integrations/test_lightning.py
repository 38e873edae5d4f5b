"""The callback in a real Lightning Trainer of either name: everything is seen, nothing changed."""

import subprocess
import sys

import pytest

pytest.importorskip("lightning")

NO_LIGHTNING = """
import sys
sys.modules.update({"lightning": None, "lightning.pytorch": None, "pytorch_lightning": None})
import vramtop.integrations.lightning
"""


@pytest.mark.parametrize(
    ("package", "words", "name"),
    [("lightning.pytorch", (), "Net"), ("pytorch_lightning", ("own",), "Task")],
)
def test_a_training_is_explained_and_undisturbed(trained, script, has_stages, package, words, name):
    command = script("lightning_training.py", package)
    plain, told = trained(command, *words, until=has_stages("validate"))
    assert len(plain.losses) == 12
    assert told.losses == plain.losses
    (probe,) = told.probes.values()
    (model,) = probe.models
    assert model.class_name == name
    assert [optimizer.class_name for optimizer in probe.optimizers] == ["AdamW"]
    assert probe.problem is None
    (part,) = probe.devices
    assert part.breakdown.parameter_bytes == 4 * model.parameters


def test_ranks_that_lightning_starts_itself_are_seen(start, watch, script, tmp_path):
    stop = tmp_path / "stop"
    command = script("lightning_training.py", "lightning.pytorch")
    ranks = start(command(stop, "callback", "ddp"))
    found = watch(ranks, ranks=2)
    assert set(found) == {0, 1}, "Lightning tells torch the ranks, and not the environment"
    for probe in found.values():
        assert probe.models[0].class_name == "Task"
        assert probe.models[0].wrappers == ("DistributedDataParallel",)
        assert probe.world_size == 2
    assert found[0].group == found[1].group is not None
    stop.touch()
    _, err = ranks.communicate(timeout=60)
    assert ranks.returncode == 0, err.decode()


def test_vramtop_run_alone_finds_the_model_inside_a_lightning_module(
    start, watch, script, tmp_path
):
    stop = tmp_path / "stop"
    launcher = ("-m", "vramtop", "run", "--", sys.executable)
    command = script("lightning_training.py", "lightning.pytorch", launcher=launcher)
    (probe,) = watch(start(command(stop))).values()
    (model,) = probe.models
    assert (model.class_name, model.batch_shapes) == ("Net", ((8, 64),))
    stop.touch()


def test_without_lightning_it_says_what_to_install():
    done = subprocess.run([sys.executable, "-c", NO_LIGHTNING], capture_output=True, text=True)
    assert done.stderr.endswith("VramtopCallback needs Lightning: pip install lightning\n")
