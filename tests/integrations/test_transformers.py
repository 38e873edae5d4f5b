"""The callback in a real Trainer: everything is seen, and nothing is changed."""

import pytest

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def test_a_trainer_is_explained_and_undisturbed(trained, script, has_stages):
    command = script("trainer_training.py")
    plain, told = trained(command, until=has_stages("evaluate", "save"))
    assert len(plain.losses) == 12
    assert told.losses == plain.losses
    (probe,) = told.probes.values()
    (model,) = probe.models
    assert model.class_name == "GPT2LMHeadModel"
    assert model.hf_config["n_embd"] == 64
    assert model.batch_shapes[0] == (4, 16)
    assert [optimizer.class_name for optimizer in probe.optimizers] == ["AdamW"]
    assert probe.problem is None
    (part,) = probe.devices
    assert part.breakdown.parameter_bytes == 4 * model.parameters
    assert part.breakdown.optimizer_state_bytes > 2 * part.breakdown.parameter_bytes - 1024


def test_the_callback_is_not_in_the_way_of_a_resume(start, watch, script, tmp_path):
    command = script("trainer_training.py")
    stop = tmp_path / "stop"
    stop.touch()
    first = start(command(stop, "callback"))
    assert first.wait(60) == 0, first.stderr.read().decode()
    stop.unlink()
    again = start(command(stop, "callback", "resume"))
    (probe,) = watch(again).values()
    assert probe.models[0].class_name == "GPT2LMHeadModel"
    stop.touch()
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err.decode()
    assert b"loss 10 " in out
    assert b"loss 9 " not in out


def test_ranks_of_a_trainer_are_seen_with_their_wrapper(start, watch, script, tmp_path):
    stop = tmp_path / "stop"
    ranks = start(script("trainer_training.py", launcher=LAUNCHER)(stop, "callback"))
    found = watch(ranks, ranks=2)
    assert set(found) == {0, 1}
    for probe in found.values():
        (model,) = probe.models
        assert model.class_name == "GPT2LMHeadModel"
        assert model.wrappers == ("DistributedDataParallel",)
        assert probe.world_size == 2
    assert found[0].group == found[1].group is not None
    stop.touch()
    _, err = ranks.communicate(timeout=60)
    assert ranks.returncode == 0, err.decode()
