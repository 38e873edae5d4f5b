"""Two recordings make a line, or say why not."""

import json

import pytest

from vramtop.estimator.pattern import NotAffine, affine
from vramtop.estimator.recording import Recording


def recording(sizes, operations=None):
    made = Recording()
    made.marks.append((0, "load", 0))
    for i, size in enumerate(sizes):
        made.add_block(size, "activation", 0, None, (operations or {}).get(i, "aten::mm"))
        made.add_event(i + 1, None, 0)
    return made


def test_sizes_go_through_both_batches():
    pattern = affine(recording([100, 64]), 2, recording([100, 96]), 3)
    assert [block.size_bytes(2) for block in pattern.blocks] == [100, 64]
    assert [block.size_bytes(3) for block in pattern.blocks] == [100, 96]
    assert [block.size_bytes(10) for block in pattern.blocks] == [100, 320]
    assert pattern.least_batch == 2


def test_other_operations_are_no_line():
    with pytest.raises(NotAffine, match="operations depend on the batch"):
        affine(recording([8]), 2, recording([8], {0: "aten::bmm"}), 3)


def test_uneven_growth_is_no_line():
    with pytest.raises(NotAffine, match="does not grow evenly"):
        affine(recording([8]), 2, recording([13]), 4)


def test_a_recording_survives_json():
    made = recording([8, 9])
    assert Recording.from_json(json.loads(json.dumps(made.to_json()))) == made
