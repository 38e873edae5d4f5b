"""Controls: every value of every control can be set, and what is asked for is what comes out."""

import dataclasses
import itertools

import pytest

from vramtop.errors import UsageError
from vramtop.estimator import closed
from vramtop.estimator.advise import changes
from vramtop.estimator.catalog import find_gpu, find_model
from vramtop.estimator.checks import validate
from vramtop.estimator.controls import CONTROLS, apply_advice, control_of, stops, texts_of
from vramtop.estimator.strategies import name_of, strategies, with_gpus
from vramtop.estimator.workload import Device, Lora, Model, Parallel, Workload

H100 = find_gpu("h100")


def workload(name="llama-2-7b", **changes):
    return Workload(find_model(name), batch=4, sequence=1024, device=H100, **changes)


WORKLOADS = {
    "plain": workload(),
    "qlora": workload(precision="nf4", lora=Lora(8, ("q_proj",))),
    "trainer": workload(stack="hf-trainer", optimizer_implementation="fused"),
    "inference": workload(mode="inference", new_tokens=64),
    "fsdp": workload(parallel=Parallel(gpus=8, zero=3)),
    "tp": workload(parallel=Parallel(gpus=4, tensor=4, sequence=True)),
    "mixed": workload(parallel=Parallel(gpus=16, tensor=2, pipeline=4)),
    "image": Workload(find_model("vit-b/16"), batch=4, sequence=1, device=H100),
    "bert": workload("bert-base-uncased", precision="fp32"),
    "code": Workload(Model("net.py:make", entry="net.py:make"), batch=4, device=H100),
    "cpu": dataclasses.replace(
        workload("gpt2"), backend="cpu", device=Device("host RAM", 32 << 30)
    ),
    "no device": dataclasses.replace(workload(), device=None),
}


@pytest.mark.parametrize("name", WORKLOADS)
def test_what_is_put_is_what_is_got(name):
    home = WORKLOADS[name]
    for control in CONTROLS:
        for value in control.values(home, home):
            changed = control.put(home, value)
            assert control.get(changed) == value, (control.name, value)
            assert control.text(value)


@pytest.mark.parametrize("name", set(WORKLOADS) - {"no device"})
def test_the_present_value_is_among_the_values(name):
    home = WORKLOADS[name]
    for control in CONTROLS:
        values = control.values(home, home)
        assert not values or control.get(home) in values, control.name


def test_a_value_of_ones_own_stays_in_reach():
    own = Model("mine", dict(find_model("gpt2").config))
    gpu = dataclasses.replace(H100, name="half of a card", total_bytes=40 << 30)
    home = Workload(own, batch=77, sequence=333, device=gpu, lora=Lora(12))
    away = home
    for name, value in (("model", find_model("gpt2")), ("gpu", H100), ("batch", 1), ("lora", 0)):
        away = control_of(name).put(away, value)
    for name, value in (
        ("model", own),
        ("gpu", gpu),
        ("batch", 77),
        ("sequence", 333),
        ("lora", 12),
    ):
        assert value in control_of(name).values(away, home)


@pytest.mark.parametrize("name", ["plain", "qlora", "trainer", "inference", "fsdp", "tp"])
def test_one_turn_of_a_control_leads_to_something_possible(name):
    """But for what only the user can decide: flash attention's dtypes."""
    home = WORKLOADS[name]
    for control in CONTROLS:
        for value in control.values(home, home):
            changed = control.put(home, value)
            try:
                validate(changed)
            except UsageError as error:
                pytest.fail(f"{control.name} {control.text(value)}: {error}")


def test_two_turns_lead_to_an_answer_or_to_one_line():
    home = workload("gpt2")
    turns = []
    for control in CONTROLS:
        values = control.values(home, home)
        if control.name != "model":
            turns += [(control, values[at]) for at in {0, len(values) // 2, len(values) - 1}]
    answers, said = 0, []
    for (first, a), (second, b) in itertools.combinations(turns, 2):
        changed = first.put(home, a)
        if b in second.values(changed, home):
            changed = second.put(changed, b)
            try:
                validate(changed)
                closed.predictor(changed).at(changed.batch)
                answers += 1
            except UsageError as error:
                said.append(str(error))
    assert answers > 300
    assert not [line for line in said if "\n" in line]


def test_quantised_weights_come_with_adapters_and_go_with_them():
    home = workload()
    quantised = control_of("precision").put(home, "nf4")
    assert quantised.lora is not None
    plain = control_of("lora").put(quantised, 0)
    assert plain.lora is None
    assert plain.precision == "bf16"


def test_flash_attention_goes_where_it_cannot_be():
    home = workload(attention="flash")
    assert control_of("precision").put(home, "fp32").attention == "sdpa"
    assert control_of("precision").put(home, "fp16").attention == "flash"


def test_one_gpu_has_no_strategy_and_more_keep_theirs():
    sharded = WORKLOADS["fsdp"]
    alone = with_gpus(sharded, 1)
    assert alone.parallel == Parallel()
    assert with_gpus(sharded, 64).parallel == Parallel(gpus=64, zero=3)
    assert name_of(with_gpus(workload(), 8).parallel) == "DDP"
    assert with_gpus(WORKLOADS["tp"], 8).parallel == Parallel(gpus=8, tensor=8, sequence=True)
    # 32 heads cannot be divided by 64.
    assert with_gpus(WORKLOADS["tp"], 64).parallel == Parallel(gpus=64)


def test_strategies_by_name():
    names = [name_of(one) for one in strategies(workload(parallel=Parallel(gpus=4)))]
    assert names == ["DDP", "ZeRO-1", "ZeRO-2", "FSDP (ZeRO-3)", "TP", "TP + SP"]
    names = [
        name_of(one) for one in strategies(workload(mode="inference", parallel=Parallel(gpus=4)))
    ]
    assert names == ["DDP", "FSDP (ZeRO-3)", "TP", "TP + SP"]
    assert [name_of(one) for one in strategies(workload())] == ["single GPU"]
    assert name_of(WORKLOADS["mixed"].parallel) == "TP 2 · PP 4 · DDP 2"
    bert = workload("bert-base-uncased", parallel=Parallel(gpus=8))
    assert "TP" not in [name_of(one) for one in strategies(bert)], "12 heads over 8 GPUs"


def test_the_host_and_a_gpu_are_different_backends():
    home = WORKLOADS["cpu"]
    assert not control_of("gpus").values(home, home)
    away = control_of("gpu").put(home, H100)
    assert away.backend == "cuda"
    assert 8 in control_of("gpus").values(away, home)
    away = control_of("gpus").put(away, 8)
    assert control_of("gpu").put(away, home.device) == home


def test_a_shorter_model_takes_a_shorter_sequence():
    home = dataclasses.replace(workload(), sequence=4096)
    assert control_of("model").put(home, find_model("gpt2")).sequence == 1024
    image = control_of("model").put(home, find_model("vit-b/16"))
    assert image.sequence == 1
    assert not control_of("sequence").values(image, home)
    assert control_of("model").put(image, find_model("gpt2")).sequence == 1024


def test_inference_has_no_controls_of_training():
    home = WORKLOADS["inference"]
    shown = {control.name for control in CONTROLS if control.values(home, home)}
    assert shown.isdisjoint({"optimizer", "checkpointing", "grad_accumulation"})


def test_stops_grow_by_shares():
    assert stops(10, 4) == (1, 2, 3, 4, 5, 6, 7, 8, 10)
    batches = stops(4096, 16)
    assert batches[:32] == tuple(range(1, 33))
    assert all(b - a <= max(a / 16, 1) for a, b in itertools.pairwise(batches))


ADVISED = {
    "eager fp32": workload("gpt2", precision="fp32", attention="eager"),
    "bf16": workload(),
    "amp": workload(precision="amp-bf16", optimizer="lion"),
    "lora": workload(lora=Lora(8)),
    "qlora": workload(precision="nf4", lora=Lora(8)),
    "tp": workload(parallel=Parallel(gpus=4, tensor=4)),
    "ddp": workload(parallel=Parallel(gpus=8)),
    "inference": workload(mode="inference", precision="fp32", new_tokens=64),
    "sgd": workload(optimizer="sgd", grad_accumulation=2),
}


@pytest.mark.parametrize("name", ADVISED)
def test_advice_is_applied_as_it_was_meant(name):
    """``advise`` makes its own workload of each change; the options must lead to the same."""
    home = ADVISED[name]
    made = list(changes(home))
    assert made
    for change in made:
        assert apply_advice(home, change.options) == change.workload, change.words


def test_all_advice_there_is_was_applied():
    said = {option for home in ADVISED.values() for one in changes(home) for option in one.options}
    from vramtop.estimator.controls import _OPTIONS

    assert said | {"--alloc-conf"} == set(_OPTIONS)
    with_it = apply_advice(workload(), {"--alloc-conf": "expandable_segments:True"})
    assert with_it.allocator.expandable_segments


def test_texts_tell_every_control():
    said = texts_of(workload(precision="nf4", lora=Lora(16), parallel=Parallel(gpus=8, zero=3)))
    assert said["model"] == "llama-2-7b"
    assert said["lora"] == "16"
    assert said["strategy"] == "FSDP (ZeRO-3)"
    assert said["gpu"] == "H100 80GB HBM3 · 79.6 GiB"
