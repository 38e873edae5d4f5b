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

    # And again from its last checkpoint, which the callback must not be in the way of.
    plain, told = trained(command, "resume")
    assert told.probes[None].models[0].class_name == "GPT2LMHeadModel"


def test_ranks_of_a_trainer_are_seen_with_their_wrapper(trained, script):
    plain, told = trained(script("trainer_training.py", launcher=LAUNCHER), ranks=2)
    assert len(plain.losses) == 24
    assert told.losses == plain.losses
    assert set(told.probes) == {0, 1}
    for probe in told.probes.values():
        (model,) = probe.models
        assert model.class_name == "GPT2LMHeadModel"
        assert model.wrappers == ("DistributedDataParallel",)
        assert probe.world_size == 2
    assert told.probes[0].group == told.probes[1].group is not None
