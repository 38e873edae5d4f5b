"""States counted by hand, and the real classes on real tensors as torch.profiler sees them."""

import pytest

pytest.importorskip("torch")

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from vramtop.errors import UsageError
from vramtop.estimator.workload import OPTIMIZERS, Model, Workload
from vramtop.trace.optimizers import make_optimizer
from vramtop.trace.recorder import Recorder

SHAPES = {"embed.weight": (300, 64), "up.weight": (64, 96), "down.weight": (96, 64), "norm": (64,)}
COUNT = sum(torch.Size(shape).numel() for shape in SHAPES.values())
MATRICES = 2 * 64 * 96


def asked(optimizer, how=None, stack="plain"):
    return Workload(Model("none"), optimizer=optimizer, optimizer_implementation=how, stack=stack)


def steps(workload, dtype, count=2):
    """(bytes of the states, most bytes beyond the start of the last step)."""
    recorder = Recorder()
    with FakeTensorMode(), recorder:
        pairs = [
            (name, torch.nn.Parameter(torch.empty(shape, dtype=dtype)))
            for name, shape in SHAPES.items()
        ]
        optimizer = make_optimizer(workload, pairs)
        for _, parameter in pairs:
            parameter.grad = torch.empty_like(parameter)
        sizes = recorder.recording.sizes
        for number in range(1, count + 1):
            recorder.mark("step", number)
            optimizer.step()
        events, last = recorder.recording.events, recorder.recording.marks[-1][0]

    def level(some):
        return sum(sizes[e - 1] if e > 0 else -sizes[-e - 1] for e in some)

    peak = max((level(events[last : i + 1]) for i in range(last, len(events))), default=0)
    before = sum(2 * p.numel() * dtype.itemsize for _, p in pairs)  # parameters and gradients
    return level(events) - before, peak


def rows(state_bytes):
    """fp32 absmax of each block of 256."""
    return state_bytes + 4 * -(-state_bytes // 256)


BF16, FP32 = torch.bfloat16, torch.float32


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize("how", ["foreach", "fused"])
@pytest.mark.parametrize(
    ("name", "states"),
    [("adamw", 2), ("adam", 2), ("sgd", 0), ("sgd-momentum", 1), ("adagrad", 1)],
)
def test_states_take_the_parameters_dtype(name, states, how, dtype):
    counts = 4 * len(SHAPES) if how == "fused" and not name.startswith("sgd") else 0
    held, _ = steps(asked(name, how), dtype)
    assert held == states * COUNT * dtype.itemsize + counts


def test_rmsprop_has_one_state_and_counts_on_the_host():
    assert steps(asked("rmsprop"), BF16)[0] == COUNT * 2


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_foreach_adam_makes_as_much_again_as_there_are_parameters(dtype):
    assert steps(asked("adamw"), dtype)[1] == COUNT * dtype.itemsize


def test_fused_adam_makes_nothing():
    assert steps(asked("adamw", "fused"), BF16)[1] == 0


def test_lion_has_one_state():
    assert steps(asked("lion"), BF16)[0] == COUNT * 2
    # bitsandbytes' 32-bit one, which is Trainer's.
    assert steps(asked("lion", stack="hf-trainer"), BF16) == (COUNT * 4, 0)


def test_muon_has_one_state_for_matrices_and_adam_s_two_for_the_rest():
    assert steps(asked("muon"), BF16)[0] == 2 * MATRICES + 2 * 2 * (COUNT - MATRICES)


def test_adafactor_has_a_row_and_a_column():
    row_and_column = 300 + 64 + 2 * (64 + 96) + 64
    assert steps(asked("adafactor"), FP32)[0] == row_and_column * 4
    held, _ = steps(asked("adafactor", stack="hf-trainer"), BF16)
    # transformers' states are fp32, with the parameter's RMS as a scalar.
    assert held == (row_and_column + len(SHAPES)) * 4


@pytest.mark.parametrize(("name", "states"), [("adamw-8bit", 2), ("lion-8bit", 1)])
def test_8bit_states_and_their_blocks(name, states):
    eight = rows(300 * 64) + 2 * rows(64 * 96)
    held, peak = steps(asked(name), BF16)
    assert (held, peak) == (states * (eight + 64 * 4 + 1024), 0)
    # Trainer keeps embeddings in 32 bits.
    held, _ = steps(asked(name, stack="hf-trainer"), BF16)
    assert held == states * (2 * rows(64 * 96) + (300 * 64 + 64) * 4 + 1024)


def test_paged_states_of_large_parameters_are_not_the_allocators(monkeypatch):
    monkeypatch.setitem(SHAPES, "embed.weight", (2000, 64))
    held, _ = steps(asked("paged-adamw-8bit"), BF16)
    assert held == 2 * (4 * 500 + 2 * rows(64 * 96) + 64 * 4 + 1024)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_second_step_leaves_what_the_first_left(name):
    assert steps(asked(name), BF16, 1)[0] == steps(asked(name), BF16, 3)[0]


def test_what_does_not_exist_is_said():
    with pytest.raises(UsageError, match="rmsprop has no fused step"):
        make_optimizer(asked("rmsprop", "fused"), [])
    with pytest.raises(UsageError, match="muon has no foreach step"):
        make_optimizer(asked("muon", "foreach"), [])


def real_step(make, dtype):
    """(bytes that stay, most bytes at once) of a first step, as torch.profiler tells it."""
    parameters = [torch.nn.Parameter(torch.zeros(s, dtype=dtype)) for s in SHAPES.values()]
    optimizer = make(parameters)
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    with torch.profiler.profile(profile_memory=True) as profile:
        optimizer.step()
    level = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    return level, peak


@pytest.mark.parametrize("dtype", [FP32, BF16])
@pytest.mark.parametrize(
    ("name", "how", "make"),
    [
        ("adamw", "foreach", lambda p: torch.optim.AdamW(p, foreach=True)),
        ("adamw", "forloop", lambda p: torch.optim.AdamW(p, foreach=False)),
        ("adagrad", "foreach", lambda p: torch.optim.Adagrad(p, foreach=True)),
        ("rmsprop", "foreach", lambda p: torch.optim.RMSprop(p, foreach=True)),
        ("sgd-momentum", "foreach", lambda p: torch.optim.SGD(p, momentum=0.9, foreach=True)),
        ("adafactor", "forloop", lambda p: torch.optim.Adafactor(p, foreach=False)),
    ],
)  # fmt: skip
def test_a_real_step_takes_as_much(name, how, make, dtype):
    if name == "adafactor" and dtype == BF16:
        pytest.skip("this CPU's norm of bf16 makes fp32 copies, CUDA's none")
    _, peak = steps(asked(name, how), dtype)
    _, real = real_step(make, dtype)
    # Scalars on the host are memory of this CPU; the largest tensor says what is a scalar here.
    assert abs(real - peak) <= 64 * len(SHAPES)


def test_adafactor_steps_as_torch_does_where_nothing_is_asked(monkeypatch):
    # torch's own choice, of a model on a CUDA device, by which of its two functions it calls.
    called = []
    for name in ("_single_tensor_adafactor", "_multi_tensor_adafactor"):
        monkeypatch.setattr(
            f"torch.optim._adafactor.{name}", lambda *_, n=name, **__: called.append(n)
        )
    with FakeTensorMode():
        parameter = torch.nn.Parameter(torch.empty(4, 4, device="cuda"))
        parameter.grad = torch.empty_like(parameter)
        torch.optim.Adafactor([parameter]).step()
    assert called == ["_single_tensor_adafactor"]
    assert asked("adafactor").implementation == "forloop"
