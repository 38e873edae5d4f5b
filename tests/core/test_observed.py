from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vramtop.core.fleet import Fleet, reduce
from vramtop.core.memory import Breakdown, Detail, Peak, Phase
from vramtop.core.model import ModelInfo, OptimizerInfo, ProbeDevice, Process
from vramtop.core.observed import MAX_OBSERVED, batch_and_sequence

KEY = (7, 1.0)
PLACE = (KEY, "cuda:0")


def model(*shapes: tuple[int, ...], arguments: tuple[str, ...] = ()) -> ModelInfo:
    return ModelInfo("Net", 10, 10, {}, batch_shapes=shapes, arguments=arguments)


def trained(
    make: Any, step: int, peak: int, *shapes: tuple[int, ...], last: tuple[int, ...] = ()
) -> Process:
    """A process whose step was sampled in detail with a batch of those shapes."""
    moment = Peak("forward", None, peak, Breakdown(peak, 0, 0))
    detail = Detail(at=100.0 + step, step=step, phases=(), peak=moment, batch_shapes=shapes)
    part = ProbeDevice("cuda:0", "GPU-0", None, make.breakdown(), detail)
    process = make.process(at=100.0 + step)
    probe = replace(process.probe, step=step, devices=(part,), models=(model(last or (1, 1)),))
    return replace(process, probe=probe)


def seen(make: Any, *processes: Process) -> list[tuple[int, int | None, int]]:
    fleet = Fleet()
    for i, process in enumerate(processes):
        fleet = reduce(fleet, make.snapshot(100.0 + i, process))
    return [(p.batch, p.sequence, p.peak_bytes) for p in fleet.observed.get(PLACE, ())]


def test_the_largest_peak_of_each_batch_and_sequence_is_kept_smallest_first(make: Any) -> None:
    processes = [
        trained(make, 1, 500, (8, 128)),
        trained(make, 2, 300, (4, 128)),
        trained(make, 3, 450, (8, 128)),
        trained(make, 4, 550, (8, 128)),
        trained(make, 5, 900, (8, 256)),
    ]
    assert seen(make, *processes) == [(4, 128, 300), (8, 128, 550), (8, 256, 900)]


def test_an_evaluation_says_nothing_of_a_training_and_all_of_an_inference(make: Any) -> None:
    process = trained(make, 1, 500, (8, 128))
    (part,) = process.probe.devices
    assert part.detail is not None
    phases = (Phase("evaluation", 0, 0, 500), Phase("other", 0, 0, 10))
    part = replace(part, detail=replace(part.detail, phases=phases))
    infers = replace(process, probe=replace(process.probe, devices=(part,)))
    optimizers = (OptimizerInfo("AdamW", 1, {}),)
    trains = replace(infers, probe=replace(infers.probe, optimizers=optimizers))
    assert seen(make, infers) == [(8, 128, 500)]
    assert seen(make, trains) == []


def test_without_shapes_of_the_step_those_of_the_last_forward_count_once(make: Any) -> None:
    """The forward that is told of next may be of a later step than the detail is."""
    first = trained(make, 1, 500, last=(8, 128))
    later = trained(make, 1, 500, last=(2, 128))
    assert seen(make, first, later) == [(8, 128, 500)]


def test_there_is_an_end_to_it_and_the_ends_of_the_range_stay(make: Any) -> None:
    lengths = [5000, 1, *range(100, 100 + 2 * MAX_OBSERVED)]
    processes = [trained(make, i, 10, (8, length)) for i, length in enumerate(lengths)]
    kept = [sequence for _, sequence, _ in seen(make, *processes)]
    assert len(kept) == MAX_OBSERVED
    assert {1, 5000, lengths[-1]} <= set(kept)


def test_it_is_forgotten_with_the_process(make: Any) -> None:
    fleet = reduce(Fleet(), make.snapshot(100.0, trained(make, 1, 500, (8, 128))))
    fleet = reduce(fleet, make.snapshot(101.0))
    assert PLACE in fleet.observed  # still on the screen
    fleet = reduce(fleet, make.snapshot(300.0))
    assert fleet.observed == {}


@pytest.mark.parametrize(
    ("shapes", "arguments", "expected"),
    [
        (((8, 128),), (), (8, 128)),
        (((8, 3, 224, 224),), (), (8, None)),
        (((8,),), (), (8, None)),
        (((16, 1), (8, 128)), ("labels", "input_ids"), (8, 128)),
        (((16, 9), (8, 128, 64)), ("mask", "model.inputs_embeds"), (8, 128)),
        (((),), (), (None, None)),
        ((), (), (None, None)),
    ],
)
def test_which_tensor_tells_the_batch(
    shapes: tuple[tuple[int, ...], ...],
    arguments: tuple[str, ...],
    expected: tuple[int | None, int | None],
) -> None:
    assert batch_and_sequence(model(*shapes, arguments=arguments), None) == expected
