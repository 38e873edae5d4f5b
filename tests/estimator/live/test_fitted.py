"""Peaks that were seen, and the line through them."""

import pytest

from tests.estimator.live.builders import GIB, detail, process
from vramtop.core.fleet import ObservedPeak
from vramtop.core.model import OptimizerInfo
from vramtop.errors import UsageError
from vramtop.estimator.live.fitted import fit, fitted

LASTING = 4000 + 4000 + 8000 + 10 * 4
"""1000 parameters and gradients in fp32, two states of each, a count of steps a tensor."""


def peaks(*seen, sequence=32):
    return [ObservedPeak(batch, sequence, peak, 1) for batch, peak in seen]


def expecting(*seen, device="cpu", **changes):
    told = process(class_name="MyNet", hf_config=None, device=device, **changes)
    return fitted(told, device, peaks(*seen), "no configuration", GIB)


def test_a_line_through_two_batches_tells_a_third():
    line = expecting((2, 20_000), (4, 24_000))
    expected = line.at(10)
    assert expected.peak_bytes == 36_000
    assert (expected.peak["parameter"], expected.peak["gradient"]) == (4000, 4000)
    assert expected.peak["optimizer_state"] == 8040
    assert sum(expected.peak.values()) == expected.peak_bytes
    assert line.predictor.process_bytes(10) == 36_000 + GIB
    assert "batches 2, 4" in expected.told
    assert expected.source == "fitted"
    assert expected.phases == ()


def test_one_batch_is_taken_as_proportional_and_said_to_be():
    line = expecting((4, LASTING + 4000))
    assert line.at(4).peak_bytes == LASTING + 4000
    assert line.at(8).peak_bytes == LASTING + 8000
    assert line.at(8).uncertainty > 2 * line.at(4).uncertainty
    assert "batch 4" in line.at(8).told


def test_none_yet_waits():
    with pytest.raises(UsageError, match="waits for a step sampled in detail"):
        expecting()


def test_peaks_off_the_line_widen_the_uncertainty():
    line = expecting((2, 20_000), (4, 40_000), (6, 25_000))
    assert line.at(4).uncertainty > 0.2


def test_the_line_is_that_of_least_squares():
    points = [(1, 110), (2, 190), (3, 310), (5, 480)]
    line = fit(points, 0)
    best = sum((line.base_bytes + line.slope_bytes * x - y) ** 2 for x, y in points)
    for base, slope in ((1, 0), (-1, 0), (0, 0.5), (0, -0.5)):
        a, b = line.base_bytes + base, line.slope_bytes + slope
        assert sum((a + b * x - y) ** 2 for x, y in points) > best


def test_peaks_that_fall_are_no_line():
    assert fit([(2, 300), (4, 200)], 0).at(6) == 500


def test_the_state_of_an_unknown_optimizer_is_what_it_holds():
    own = OptimizerInfo("Sophia", 3, {}, "me", {"float32": 3000}, 1000)
    expected = expecting((4, 99_000), optimizers=(own,)).at(4)
    assert expected.peak["optimizer_state"] == 12_000
    assert any("Sophia" in note for note in expected.notes)


def test_only_the_present_sequence_length_counts():
    seen = [*peaks((2, 20_000), (4, 24_000)), *peaks((4, 90_000), sequence=512)]
    told = process(class_name="MyNet", hf_config=None, of_detail=detail("forward"))
    assert fitted(told, "cpu", seen, "why", 0).at(10).peak_bytes == 36_000


def test_on_cuda_reserved_is_as_much_more_as_was_seen():
    line = expecting((2, 20_000), (4, 24_000), device="cuda:0")
    assert line.at(10).reserved_bytes == 1.2 * 36_000
