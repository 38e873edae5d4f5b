"""What a viewer is told of a step, in every kind of training: it adds up, and names what is there.

The sizes that are expected are worked out from the scripts' models by hand.
"""

import pytest

from tests.works_with.scenarios import SCENARIOS

pytest.importorskip("torch")

CATEGORIES = (
    *("parameter", "gradient", "optimizer_state", "activation"),
    *("input", "temporary", "autograd_detail", "unknown"),
)
PARTS = {
    "buffer": "parameter",
    "autocast_cache": "activation",
    "kv_cache": "activation",
    "recomputed": "autograd_detail",
}
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
# parts.Perceptron: 64 -> 256, three times 256 -> 256, 256 -> 10, each with a bias, in float32.
PERCEPTRON_BYTES = 4 * (64 * 256 + 256 + 3 * (256 * 256 + 256) + 256 * 10 + 10)
PERCEPTRON_TENSORS = 10


@pytest.fixture
def details(pair):
    """``details(scenario)``: the messages of that type."""

    return lambda scenario: pair(scenario).seen.of_type("detail")


def of(*names):
    """Parametrizes a test with the scenarios of these names."""
    return pytest.mark.parametrize("scenario", [BY_NAME[name] for name in names], ids=names)


def named(detail, name):
    return [phase for phase in detail["phases"] if phase["name"] == name]


def runs(detail, name):
    return sum(phase["count"] for phase in named(detail, name))


def sizes(detail, name, what):
    """Bytes of a category or part after each run of a phase."""
    return [phase["after"][f"{what}_bytes"] for phase in named(detail, name)]


def breakdowns(detail):
    return [phase["after"] for phase in detail["phases"]] + (
        [detail["peak"]["breakdown"]] if detail["peak"] else []
    )


def total(breakdown):
    return sum(breakdown[f"{name}_bytes"] or 0 for name in CATEGORIES)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_all_adds_up(details, scenario):
    told = details(scenario)
    if scenario.name.startswith("compiled inner"):
        pytest.skip("neither a compiled optimizer.step nor the root of it tells of itself")
    assert told, "no step was looked at in detail"
    for detail in told:
        assert detail["phases"]
        for phase in detail["phases"]:
            assert phase["count"] >= 1
            assert total(phase["after"]) == phase["after_bytes"]
            if phase["peak_bytes"] is not None:
                assert phase["peak_bytes"] >= max(phase["before_bytes"], phase["after_bytes"])
        for breakdown in breakdowns(detail):
            assert all(breakdown[f"{name}_bytes"] >= 0 for name in CATEGORIES)
            for part, whole in PARTS.items():
                assert 0 <= breakdown[f"{part}_bytes"] <= breakdown[f"{whole}_bytes"]
        if (peak := detail["peak"]) is not None:
            assert total(peak["breakdown"]) == peak["total_bytes"]
            assert peak["total_bytes"] == max(p["peak_bytes"] for p in detail["phases"])
            assert peak["phase"] in {phase["name"] for phase in detail["phases"]}


@of("plain_loop AdamW none", "other_thread 1")
def test_a_loop_as_in_every_tutorial(details, scenario):
    for detail in details(scenario):
        assert {"forward", "backward", "step", "zero_grad"} <= {p["name"] for p in detail["phases"]}
        assert {b["parameter_bytes"] for b in breakdowns(detail)} == {PERCEPTRON_BYTES}
        # Two moments of every parameter, and a step count of four bytes for each.
        state = 2 * PERCEPTRON_BYTES + 4 * PERCEPTRON_TENSORS
        assert {b["optimizer_state_bytes"] for b in breakdowns(detail)} == {state}
        assert set(sizes(detail, "backward", "gradient")) == {PERCEPTRON_BYTES}
        assert set(sizes(detail, "zero_grad", "gradient")) == {0}
        # What every linear, GELU and dropout gives, at the least.
        assert max(sizes(detail, "forward", "activation")) > 3 * 4 * 64 * 256 * 4
        assert min(sizes(detail, "forward", "input")) >= 64 * 64 * 4 + 64 * 8
        assert sizes(detail, "backward", "activation")[-1] < 1000  # the loss itself is kept
        modules = {path: parameters for path, _, _, parameters in detail["modules"]}
        assert modules["layers.3"] == 4 * (256 * 256 + 256)
        assert sum(modules.values()) == PERCEPTRON_BYTES


@of("plain_loop SGD zeros")
def test_gradients_that_become_zero_stay(details, scenario):
    for detail in details(scenario):
        assert named(detail, "zero_grad")
        assert {b["gradient_bytes"] for b in breakdowns(detail)} == {PERCEPTRON_BYTES}


@of("autocast bfloat16", "autocast float16", "checkpointing not autocast")
def test_copies_that_autocast_keeps(details, scenario):
    for detail in details(scenario):
        assert max(b["autocast_cache_bytes"] for b in breakdowns(detail)) > 0


@of("checkpointing reentrant plain", "checkpointing not plain", "checkpointing not autocast")
def test_checkpoints_are_made_again_in_backward(details, scenario):
    for detail in details(scenario):
        assert detail["peak"]["phase"] == "backward"
        assert detail["peak"]["breakdown"]["recomputed_bytes"] > 0
        assert detail["peak"]["module"].startswith("blocks.")


@of("accumulation")
def test_several_backwards_a_step(details, scenario):
    for detail in details(scenario):
        assert (runs(detail, "backward"), runs(detail, "step")) == (4, 1)
        assert runs(detail, "forward") >= 4


@of("several_optimizers")
def test_several_steps_a_round(details, scenario):
    assert {runs(detail, "step") for detail in details(scenario)} <= {2, 3}


@of("adversarial")
def test_two_models_with_an_optimizer_each(details, scenario):
    for detail in details(scenario):
        assert (runs(detail, "backward"), runs(detail, "step")) == (2, 2)
        # 32 -> 256 (and the norm's) -> 128, and 128 -> 256 -> 1; running mean, variance, count.
        parameters = 4 * (33 * 256 + 2 * 256 + 257 * 128 + 129 * 256 + 257)
        buffers = 4 * 2 * 256 + 8
        for breakdown in breakdowns(detail):
            assert breakdown["parameter_bytes"] == parameters + buffers
            assert breakdown["buffer_bytes"] == buffers


@of("evaluation")
def test_evaluation_between(details, scenario):
    told = [{phase["name"] for phase in detail["phases"]} for detail in details(scenario)]
    assert any("evaluation" in names for names in told), told
    assert all({"forward", "backward", "step"} <= names for names in told), told


@of("inference")
def test_inference_without_gradients(details, scenario):
    first = details(scenario)[0]
    assert {phase["name"] for phase in first["phases"]} <= {"evaluation", "other"}
    assert max(sizes(first, "evaluation", "activation")) > 0
    assert first["step"] is None


@of("generation gpt2 trained", "generation llama only")
def test_keys_and_values_of_a_generation(details, scenario):
    cached = [
        phase["after"]["kv_cache_bytes"]
        for detail in details(scenario)
        for phase in named(detail, "generation")
    ]
    # 16 sequences of 32 to 82 tokens in 3 layers; llama shares keys and values between heads.
    width = 128 if scenario.arguments[0] == "gpt2" else 64
    token = 2 * 16 * 3 * width * 4
    assert cached
    assert any(32 * token <= size <= 2 * 82 * token for size in cached)


@of("optimizer_in_backward")
def test_an_optimizer_inside_backward_is_no_phase(details, scenario):
    for detail in details(scenario):
        assert {"forward", "backward"} <= {phase["name"] for phase in detail["phases"]}
        assert not named(detail, "step")
        assert set(sizes(detail, "backward", "gradient")) == {0}


@of("lora module", "lora peft")
def test_only_adapters_have_gradients_and_state(details, scenario):
    # Rank 4 on 64 -> 256 and 256 -> 64 in three blocks, or on 64 -> 192 in two.
    trained = 4 * (3 * 2 * 4 * (64 + 256) if scenario.arguments[0] == "module" else 2048)
    for detail in details(scenario):
        assert max(sizes(detail, "backward", "gradient")) == trained
        peak = detail["peak"]["breakdown"]
        assert 2 * trained <= peak["optimizer_state_bytes"] < 2.1 * trained
        assert peak["parameter_bytes"] > 10 * trained


@of("ranks ddp", "ranks ddp-views", "ranks fsdp2")
def test_both_ranks_tell(pair, scenario):
    told = {
        pid: [message for message in sent if message["type"] == "detail"]
        for pid, sent in pair(scenario).seen.messages.items()
    }
    assert len(told) == 2
    assert all(told.values())


@of("ranks fsdp2")
def test_a_shard_is_half(details, scenario):
    # parts.Transformer: embedding, three blocks (norm, attention, mlp), head; every first
    # dimension is even.
    block = 2 * 64 + 4 * (64 * 64 + 64) + 2 * 4 * 64 * 64 + 4 * 64 + 64
    whole = 4 * (200 * 64 + 3 * block + 65 * 200)
    for detail in details(scenario):
        (shards,) = {phase["after"]["parameter_bytes"] for phase in named(detail, "zero_grad")}
        assert shards == whole // 2


@of("compiled module inductor", "compiled method aot_eager", "compiled function aot_eager")
def test_compiled_regions_say_what_cannot_be_told(details, scenario):
    for detail in details(scenario):
        assert any("compiled" in note for note in detail["notes"])
        assert {b["parameter_bytes"] for b in breakdowns(detail)} == {PERCEPTRON_BYTES}


@of("closures")
def test_forwards_inside_an_optimizers_step(details, scenario):
    assert any(runs(detail, "backward") > 2 for detail in details(scenario))
