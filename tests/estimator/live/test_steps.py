"""A steady step told from a timeline that was written by hand."""

from vramtop.estimator.live.steps import steady_step
from vramtop.estimator.timeline import BlockInfo, Mark, Timeline

PARAMETER, STATE, ACTIVATION, GRADIENT, TEMPORARY, WORKSPACE = range(6)
BLOCKS = (
    BlockInfo(1000, 0, "parameter", "w"),
    BlockInfo(2000, 0, "optimizer_state", "w"),
    BlockInfo(4, 100, "activation", "net.a"),
    BlockInfo(1000, 0, "gradient", "w"),
    BlockInfo(500, 0, "temporary", "w"),
    BlockInfo(0, 0, "workspace", ""),
)


def timeline():
    """Two steps; the first makes the state, in the second an activation is there when it steps."""
    blocks = (*BLOCKS, *BLOCKS[ACTIVATION : TEMPORARY + 1])
    again = len(BLOCKS)
    events, marks, modules = [], [], []

    def phase(name, step, *numbers, module=""):
        marks.append(Mark(len(events), name, step))
        events.extend(numbers)
        modules.extend([module] * len(numbers))

    def came(number):
        return number + 1

    def went(number):
        return -(number + 1)

    phase("load", 0, came(PARAMETER))
    phase("forward", 1, came(WORKSPACE), came(ACTIVATION))
    phase("backward", 1, came(GRADIENT), went(ACTIVATION))
    phase("step", 1, came(STATE), came(TEMPORARY), went(TEMPORARY))
    phase("zero_grad", 1, went(GRADIENT))
    phase("other", 2)
    phase("forward", 2, came(again), module="net.a")
    phase("backward", 2, came(again + 1), module="net")
    phase("step", 2, came(again + 2), went(again + 2), went(again), module="opt")
    phase("zero_grad", 2, went(again + 1))
    phase("end", 2)
    return Timeline(blocks, tuple(events), tuple(marks), tuple(modules))


def test_phases_hold_what_is_left_of_the_step_before():
    step = steady_step(timeline(), 10, "cpu")
    assert [phase.name for phase in step.phases] == ["forward", "backward", "step", "zero_grad"]
    forward, backward, stepped, zeroed = step.phases
    assert (forward.after["parameter"], forward.after["optimizer_state"]) == (1000, 2000)
    assert (forward.after["activation"], forward.peak_bytes) == (1004, 4004)
    assert (backward.after["gradient"], backward.peak_bytes) == (1000, 5004)
    assert (stepped.after["activation"], stepped.peak_bytes) == (0, 5504)
    assert (sum(zeroed.after.values()), zeroed.peak_bytes) == (3000, 4000)


def test_the_peak_and_what_it_is_of():
    step = steady_step(timeline(), 10, "cpu")
    assert (step.peak_bytes, step.peak_phase, step.peak_module) == (5504, "step", "opt")
    assert sum(step.peak.values()) == 5504
    assert step.peak["temporary"] == 500


def test_on_cuda_storages_are_blocks_and_workspaces_are_none():
    step = steady_step(timeline(), 10, "cuda")
    assert step.peak["parameter"] == 1024
    assert step.peak["activation"] == 1024
    assert step.peak["temporary"] == 512
    assert step.peak["unknown"] == 0
