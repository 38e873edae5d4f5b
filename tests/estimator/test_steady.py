"""One more step, by hand."""

from vramtop.estimator.steady import with_another_step
from vramtop.estimator.timeline import BlockInfo, Mark, Timeline

PARAMETER = BlockInfo(100, 0, "parameter", "weight")
LOGITS = BlockInfo(0, 7, "activation", "head")
HIDDEN = BlockInfo(0, 5, "activation", "layer")


def timeline(blocks, events, marks):
    return Timeline(tuple(blocks), tuple(events), tuple(marks), ("",) * len(events), 1)


def test_the_copy_releases_what_the_last_step_has_left():
    # Each step keeps its logits until the next has its own.
    traced = timeline(
        [PARAMETER, HIDDEN, LOGITS, HIDDEN, LOGITS],
        [1, 2, 3, -2, 4, 5, -3, -4],
        [
            Mark(0, "load", 0),
            Mark(1, "forward", 1),
            Mark(3, "backward", 1),
            Mark(4, "forward", 2),
            Mark(7, "backward", 2),
            Mark(8, "end", 2),
        ],
    )
    made = with_another_step(traced)
    assert made.events == (1, 2, 3, -2, 4, 5, -3, -4, 6, 7, -5, -6)
    assert made.blocks[5:] == (HIDDEN, LOGITS)
    assert made.marks[-3:] == (Mark(8, "forward", 3), Mark(11, "backward", 3), Mark(12, "end", 3))
    assert len(made.event_modules) == len(made.events)


def test_without_a_counterpart_nothing_is_added():
    # The second step keeps what the first did not.
    traced = timeline(
        [PARAMETER, HIDDEN, HIDDEN],
        [1, 2, -2, 3],
        [Mark(0, "load", 0), Mark(1, "forward", 1), Mark(3, "forward", 2), Mark(4, "end", 2)],
    )
    assert with_another_step(traced) is traced


def test_an_inference_has_no_second_step():
    traced = timeline([PARAMETER], [1], [Mark(0, "load", 0), Mark(1, "forward", 1)])
    assert with_another_step(traced) is traced
