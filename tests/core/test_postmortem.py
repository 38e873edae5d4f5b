"""Verdicts as literal sentences, of cases whose numbers are counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vramtop.core.failure import Failure
from vramtop.core.fleet import Fleet, reduce
from vramtop.core.memory import Block, Breakdown, Detail, Peak, Segment, SegmentMap
from vramtop.core.model import (
    AllocatorStats,
    Device,
    DeviceMemory,
    DeviceUse,
    HistoryPoint,
    Host,
    ModelInfo,
    Probe,
    ProbeDevice,
    Process,
    Snapshot,
)
from vramtop.core.oom_figures import figures
from vramtop.core.postmortem import FittingBatch, is_settled, remedies, sentence, verdict, where
from vramtop.core.postmortem_story import story

GIB, MIB = 1 << 30, 1 << 20
AT = 1000.0
HOLE = 320 * MIB
"""Ten of them, each behind 640 MiB in use: 3200 MiB idle in segments of 960 MiB."""


def segment_map(hole=HOLE, at=AT, expandable=False):
    blocks = (Block(640 * MIB, "allocated", "activation"), Block(hole, "free"))
    one = Segment(640 * MIB + hole, "large", 0, expandable, blocks)
    return SegmentMap(at, (one,) * 10)


def failed(asked=None, free=None, **more):
    fields = {
        "kind": "oom",
        "at": AT,
        "device": "cuda:0",
        "step": 812,
        "phase": "backward",
        "module": "layers.17.mlp",
        "module_source": "exact",
        "requested_bytes": asked,
        "free_bytes": free,
        "total_bytes": 24 * GIB,
        "caught": False,
    }
    return Failure(**{**fields, **more})


def fleet_of(failure, segments=None, others=(), breakdown=None, detail=None, history=None):
    """A process that holds 20 GiB of 24, of which 16 GiB are allocated."""
    device = failure.device or "cuda:0"
    own = breakdown or Breakdown(
        4 * GIB, 4 * GIB, 8 * GIB, outside_allocator_bytes=GIB, process_bytes=20 * GIB
    )
    allocator = None
    if device != "cpu":
        allocator = AllocatorStats(
            16 * GIB, 19 * GIB, 16 * GIB, None, None, 17 * GIB, 19 * GIB, 10, 1, 1
        )
    part = ProbeDevice(
        device, None if device == "cpu" else "GPU-0", allocator, own, detail, segments
    )
    process = Process(
        pid=4101,
        started_at=1.0,
        state="gone",
        command="python train.py",
        devices=(DeviceUse("GPU-0", own.process_bytes, "C"),),
        probe=Probe("gone", at=AT, step=812, devices=(part,), failure=failure, history=history),
    )
    plain = [
        Process(pid, 2.0, command=f"python {pid}.py", devices=(DeviceUse("GPU-0", size, "C"),))
        for pid, size in others
    ]
    gpu = Device(0, "GPU-0", "Fake", "nvml", DeviceMemory(24 * GIB, None, None))
    return reduce(Fleet(), Snapshot(AT, Host("box", 64 * GIB, None), (gpu,), (process, *plain)))


def told(failure, batch=None, **more):
    fleet = fleet_of(failure, **more)
    process = fleet.snapshot.processes[0]
    at = figures(fleet, process, failure)
    found = remedies(failure, at, batch, {4102: "python 4102.py"})
    return sentence(failure, at, found), [(one.kind, one.is_sure) for one in found]


def test_fragmentation():
    # A hole of 320 MiB has 15 whole pages of 20 MiB for certain: ten give 3000 MiB.
    said, found = told(
        failed(1900 * MIB, 300 * MIB), FittingBatch(7, 8, "trace"), segments=segment_map()
    )
    assert said == (
        "step 812, backward of layers.17.mlp: asked 1.86 GiB, 300 MiB free, 3.12 GiB cached in "
        "pieces ≤ 320 MiB; would have fit with expandable_segments or batch 7"
    )
    assert found == [("expandable", True), ("batch", True)]


@pytest.mark.parametrize(
    ("asked_mib", "fits"),
    [(3300, True), (3301, False)],  # 3000 of pages + 300 free, in pages of 20
)
def test_expandable_segments_only_where_their_pages_suffice(asked_mib, fits):
    _, found = told(failed(asked_mib * MIB, 300 * MIB), segments=segment_map())
    assert (("expandable", True) in found) == fits


def test_small_holes_have_no_pages_to_give():
    said, found = told(failed(100 * MIB, 10 * MIB), segments=segment_map(hole=30 * MIB))
    assert said == (
        "step 812, backward of layers.17.mlp: asked 100 MiB, 10.0 MiB free, 300 MiB cached in "
        "pieces ≤ 30.0 MiB"
    )
    assert found == []


def test_expandable_already():
    _, found = told(failed(1900 * MIB, 300 * MIB), segments=segment_map(expandable=True))
    assert found == []


@pytest.mark.parametrize("segments", [segment_map(at=AT - 60), segment_map(hole=2000 * MIB), None])
def test_without_a_map_of_that_moment_it_may_have_fit(segments):
    """One of a minute ago, one with a hole that would have served, none."""
    said, found = told(failed(1900 * MIB, 300 * MIB), segments=segments)
    assert said == (
        "step 812, backward of layers.17.mlp: asked 1.86 GiB, 300 MiB free, 3.00 GiB cached; "
        "may have fit with expandable_segments"
    )
    assert found == [("expandable", False)]


def test_plainly_too_much():
    said, found = told(failed(8 * GIB, 300 * MIB), segments=segment_map())
    assert said == (
        "step 812, backward of layers.17.mlp: asked 8.00 GiB, 300 MiB free, 3.12 GiB cached in "
        "pieces ≤ 320 MiB"
    )
    assert found == []


def test_others_hold_it():
    said, found = told(
        failed(8 * GIB, 300 * MIB),
        segments=segment_map(),
        others=((4102, 9 * GIB), (4103, 12 * GIB), (4104, GIB)),
    )
    assert said.endswith("; would have fit without pid 4102")  # the least that suffices
    assert found == [("others", True)]


def test_all_others_together():
    said, _ = told(
        failed(8 * GIB, 300 * MIB),
        segments=segment_map(),
        others=((4102, 5 * GIB), (4103, 4 * GIB)),
    )
    assert said.endswith("; would have fit without the others on the GPU")


def test_what_is_not_seen_to_be_a_process_may_be_none():
    """Of 24 GiB 23.5 are used, 20 of them by this process, and no other is seen."""
    fleet = fleet_of(failure := failed(2 * GIB, 500 * MIB), segments=segment_map(hole=MIB))
    (gpu,) = fleet.snapshot.devices
    used = replace(gpu, memory=replace(gpu.memory, used_bytes=47 * GIB // 2))
    fleet = replace(fleet, snapshot=replace(fleet.snapshot, devices=(used,)))
    process = fleet.snapshot.processes[0]
    found = remedies(failure, figures(fleet, process, failure))
    assert [(one.kind, one.is_sure) for one in found] == [("others", False)]
    assert verdict(fleet, process).endswith("; may have fit without the others on the GPU")
    assert found[0].text.startswith("3.50 GiB of the same GPU were held by what is not seen")


def test_everything_at_once():
    said, _ = told(
        failed(1900 * MIB, 300 * MIB),
        FittingBatch(7, 8, "trace"),
        segments=segment_map(),
        others=((4102, 3 * GIB),),
    )
    assert said.endswith(
        "; would have fit with expandable_segments or batch 7, or without pid 4102"
    )


def test_the_exceptions_own_words_go_before_older_samples():
    message = (
        "CUDA out of memory. Tried to allocate 8.00 GiB. Process 77 has 9.00 GiB memory in use. "
        "Including non-PyTorch memory, this process has 14.00 GiB memory in use. Of the allocated "
        "memory 13.00 GiB is allocated by PyTorch, and 512.00 MiB is reserved by PyTorch but "
        "unallocated."
    )
    said, _ = told(failed(8 * GIB, 300 * MIB, message=message), others=((4102, 20 * GIB),))
    assert said == (
        "step 812, backward of layers.17.mlp: asked 8.00 GiB, 300 MiB free, 512 MiB cached; "
        "would have fit without pid 77"
    )


def test_a_batch_that_was_only_sampled_is_said_to_be():
    fleet = fleet_of(failed(1900 * MIB, 300 * MIB))
    process = fleet.snapshot.processes[0]
    batch = FittingBatch(7, 8, "trace", is_sampled=True)
    texts = [one.text for one in story(fleet, process, batch=batch).remedies]
    assert any(text.startswith("batch 7 in place of 8, which was sampled last (") for text in texts)


def test_a_limit_of_its_own():
    message = "15.50 GiB allowed; and 4.00 GiB is reserved by PyTorch but unallocated"
    said, found = told(failed(GIB, 60 * GIB, message=message))
    assert said == (
        "step 812, backward of layers.17.mlp: asked 1.00 GiB, 60.0 GiB free, 4.00 GiB cached, "
        "15.5 GiB allowed to this process"
    )
    assert found == [("allowed", True)]


CPU = {"device": "cpu", "phase": "forward", "module": "2.up", "total_bytes": 4 * GIB}


@pytest.mark.parametrize(
    ("limited_by", "words", "advice"),
    [
        ("address_space", "an address space of 4.00 GiB", "ulimit -v"),
        ("cgroup", "its container's memory of 4.00 GiB", "memory.max"),
        ("ram", "the host's RAM of 4.00 GiB", "swap"),
    ],
)
def test_on_the_cpu_the_limit_is_named(limited_by, words, advice):
    failure = failed(GIB, 116 * MIB, limited_by=limited_by, **CPU)
    said, found = told(failure)
    assert said == f"step 812, forward of 2.up: asked 1.00 GiB, 116 MiB left of {words}"
    assert found == [("limit", True)]
    fleet = fleet_of(failure)
    assert advice in story(fleet, fleet.snapshot.processes[0]).remedies[0].text


def test_what_was_let_go_before_it_was_read_is_not_what_was_left():
    said, _ = told(failed(128 * MIB, 204 * MIB, limited_by="address_space", **CPU))
    assert said == ("step 812, forward of 2.up: asked 128 MiB, within an address space of 4.00 GiB")


def lost(message=None):
    return Failure("lost", AT, step=812, message=message)


def test_lost_with_and_without_the_kernels_killer():
    struck = "the kernel's OOM killer has struck meanwhile (oom_kill 3 to 4)"
    assert told(lost(struck)) == (f"step 812: gone; {struck}", [])
    assert told(lost()) == ("step 812: gone without a word", [])


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("SIGKILL ended it", ["SIGKILL comes from the kernel where memory is full"]),
        ("SIGSEGV ended it", ["it crashed in compiled code: with PYTHONFAULTHANDLER=1"]),
        ("SIGKILL ended it; the kernel's OOM killer has struck", ["if it was this one", "SIGKILL"]),
        ("the kernel's OOM killer has struck meanwhile", ["if it was this one", "exit code 137"]),
        ("SIGXCPU ended it", ["exit code 137 is a kill"]),
        (None, ["exit code 137 is a kill"]),
    ],
)
def test_what_to_do_about_a_lost_one_is_by_what_is_known_of_its_end(message, advice):
    fleet = fleet_of(lost(message))
    found = story(fleet, fleet.snapshot.processes[0]).remedies
    assert len(found) == len(advice)
    for remedy, words in zip(found, advice, strict=True):
        assert remedy.text.startswith(words)


def test_nothing_known():
    failure = Failure("oom", AT)
    bare = Process(1, 1.0, probe=Probe("gone", failure=failure))
    fleet = reduce(Fleet(), Snapshot(AT, Host("box", None, None), (), (bare,)))
    assert verdict(fleet, bare) == "before the first step: memory ran out"
    assert story(fleet, bare).rows == ()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "step 812, backward of layers.17.mlp"),
        ({"module": ""}, "step 812, backward of the model itself"),
        ({"module_source": "nearest"}, "step 812, backward near layers.17.mlp"),
        (
            {"module_source": "last_peak"},
            "step 812, backward (the last sampled step was fullest in layers.17.mlp)",
        ),
        ({"module": None, "phase": "step"}, "step 812, optimizer step"),
        ({"module": None, "phase": None}, "step 812"),
        ({"step": None, "phase": "forward"}, "before the first step, forward of layers.17.mlp"),
    ],
)
def test_where(more, words):
    assert where(failed(**more)) == words


def test_a_caught_one_says_so():
    said, _ = told(failed(GIB, 0, caught=True), segments=segment_map(hole=MIB))
    assert said.endswith("; caught, the program went on")


def test_a_failure_stands_when_nobody_has_caught_it():
    def settled(caught, state="streaming", after_s=0.0):
        process = Process(1, 1.0, probe=Probe(state, failure=failed(caught=caught)))
        return is_settled(process, AT + after_s)

    assert settled(False)
    assert not settled(True, "gone", 60.0)
    assert not settled(None, after_s=1.0)  # the program may go on yet
    assert settled(None, "gone")
    assert settled(None, after_s=6.0)
    assert not is_settled(Process(1, 1.0), AT)


def test_the_story_has_what_was_held_then_and_at_the_peak_beside_what_was_predicted():
    at_peak = Breakdown(4 * GIB, 4 * GIB, 8 * GIB, 2 * GIB)
    detail = Detail(AT - 3, 811, (), Peak("backward", "layers.2", 18 * GIB, at_peak))
    points = tuple(HistoryPoint(AT - i, 812 - i, at_peak) for i in range(30, 0, -1))
    failure = failed(1900 * MIB, 300 * MIB)
    fleet = fleet_of(failure, segments=segment_map(), detail=detail, history={"cuda:0": points})
    found = story(
        fleet,
        fleet.snapshot.processes[0],
        traceback="one\n    ^^^^\n" * 30 + "torch.OutOfMemoryError: no\n",
        predicted={"parameter": 4 * GIB, "activation": GIB, "total": 6 * GIB},
        predicted_text="so much",
    )
    rows = {row.category: row.texts for row in found.rows}
    assert rows["parameter"] == ("parameters", "4.00 GiB", "4.00 GiB", "4.00 GiB")
    assert rows["activation"] == ("activations", "–", "2.00 GiB", "1.00 GiB")
    assert rows["total"] == ("tensors in all", "16.0 GiB", "18.0 GiB", "6.00 GiB")
    assert rows["gradient"][3] == "–", "of which nothing is predicted"
    facts = dict(found.facts)
    assert facts["peak"] == "18.0 GiB in backward of layers.2, in step 811, the last sampled"
    assert facts["predicted"] == "so much"
    assert facts["segments"] == (
        "10 of 9.38 GiB; largest free piece 320 MiB; 3.12 GiB free between blocks in use: not to "
        "be released"
    )
    assert facts["this process"] == "20.0 GiB of 24.0 GiB"
    assert len(found.history) == 30
    assert found.traceback[-1] == "torch.OutOfMemoryError: no"
    assert len(found.traceback) == 12
    assert not any("^" in text for text in found.traceback)
    # Of 18 GiB at the peak optimizer state were 8: more than was missing.
    assert [one.kind for one in found.remedies] == ["expandable", "category"]
    assert "optimizer state were 8.00 GiB of 18.0 GiB" in found.remedies[1].text


def story_on_the_cpu(grown_bytes, *shapes, **more):
    held = Breakdown(GIB, GIB, 2 * GIB, process_bytes=20 * GIB)
    before = replace(held, process_bytes=20 * GIB - grown_bytes)
    points = (HistoryPoint(AT - 1, 811, before), HistoryPoint(AT, 812, held))
    failure = failed(GIB, 0, device="cpu", **{"phase": "forward", **more})
    fleet = fleet_of(failure, breakdown=held, history={"cpu": points})
    models = tuple(ModelInfo("Net", 1, 1, {}, batch_shapes=(shape,)) for shape in shapes)
    (process,) = fleet.snapshot.processes
    found = story(fleet, replace(process, probe=replace(process.probe, models=models)))
    return [text for _, text in found.facts], [one.text for one in found.remedies]


def test_of_a_failed_forward_its_batch_is_told_and_what_it_had_made():
    facts, advice = story_on_the_cpu(8 * GIB, (4096, 256))
    assert "4096 × 256, of the forward that failed" in facts
    assert "8.00 GiB of it came in the step that failed: most is rest of RSS" in facts
    assert advice[0].startswith("a smaller batch than 4096, with gradients accumulated")


@pytest.mark.parametrize(
    ("grown_bytes", "shapes", "phase"),
    [
        (GIB, [(4096, 256)], "forward"),
        (8 * GIB, [(1, 256)], "forward"),
        (8 * GIB, [(4096, 256), (8, 8)], "forward"),
        (8 * GIB, [(4096, 256)], "backward"),
        (8 * GIB, [], "forward"),
    ],
)
def test_else_a_smaller_batch_is_no_advice(grown_bytes, shapes, phase):
    _, advice = story_on_the_cpu(grown_bytes, *shapes, phase=phase)
    assert not any("smaller batch than" in said for said in advice)


def test_what_a_category_had_is_no_advice_where_it_is_less_than_was_missing():
    fleet = fleet_of(failed(30 * GIB, 0))
    assert story(fleet, fleet.snapshot.processes[0]).remedies == ()


def test_who_has_not_failed_has_no_story():
    process = Process(1, 1.0)
    assert story(Fleet(), process) is None
    assert verdict(Fleet(), process) == ""


def test_what_a_job_holds_then_counts_for_the_device_it_failed_on():
    """The failure names cuda:1; the process uses cuda:0 more."""
    failure = failed(8 * GIB, 300 * MIB, device="cuda:1")
    fleet = fleet_of(failure)
    process = fleet.snapshot.processes[0]
    small = Breakdown(GIB, 0, 0, process_bytes=2 * GIB)
    big = replace(process.probe.devices[0], device="cuda:0")
    little = ProbeDevice("cuda:1", "GPU-1", None, small)
    process = replace(process, probe=replace(process.probe, devices=(big, little)))
    assert story(fleet, process).torch_device == "cuda:1"
    assert figures(fleet, process, failure).in_use_bytes == 2 * GIB
