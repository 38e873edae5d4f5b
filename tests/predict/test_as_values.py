"""The key ``prediction`` of a process; oracle: the shape as it is documented, written by hand."""

import json

from tests.tui.predictions import of_detail
from vramtop.core.breakdowns import detail_of
from vramtop.estimator.comparison import compare
from vramtop.predict.predictions import Prediction
from vramtop.report import json as report
from vramtop.report import text
from vramtop.sources.fake import snapshots

KEYS = {
    *("source", "told", "batch", "sequence", "uncertainty", "differs", "peak", "moments"),
    *("reasons", "notes", "problem"),
}


def shown(prediction_of):
    """The snapshot of the fake training with a prediction, and that prediction as JSON."""
    snapshot = next(snapshots("training"))
    (process,) = [p for p in snapshot.processes if p.probe.devices]
    made = {process.key: prediction_of(process)}
    told = json.loads(report.render(snapshot, predictions=made))
    found = {p["pid"]: p["prediction"] for p in told["processes"]}
    return snapshot, made, found.pop(process.pid), found


def compared(process, **factor):
    expected = of_detail(detail_of(process, "cuda:0"), factor)
    return Prediction(comparison=compare(process, "cuda:0", expected))


def test_every_moment_has_its_pairs():
    snapshot, _, told, others = shown(compared)
    assert set(others.values()) == {None}, "without a probe there is none"
    assert set(told) == KEYS
    assert (told["source"], told["batch"], told["sequence"]) == ("trace", 8, 1024)
    assert (told["differs"], told["reasons"], told["problem"]) == (False, [], None)
    names = ["now", "peak", "forward", "backward", "step", "zero_grad"]
    assert [moment["name"] for moment in told["moments"]] == names
    process = next(p for p in snapshot.processes if p.probe.devices)
    phases = {phase.name: phase for phase in process.probe.devices[0].detail.phases}
    for moment in told["moments"][2:]:
        assert set(moment) == {"name", "phase", "total", "categories"}
        after = phases[moment["name"]].after
        assert moment["total"]["actual_bytes"] == after.tensor_bytes
        for category, pair in moment["categories"].items():
            assert set(pair) == {"predicted_bytes", "actual_bytes", "delta_bytes"}
            assert pair["actual_bytes"] == after.bytes_of(category)
            assert pair["delta_bytes"] == pair["actual_bytes"] - pair["predicted_bytes"]
    peak = told["peak"]
    assert peak["actual_bytes"] == process.probe.devices[0].detail.peak.total_bytes
    assert peak["predicted_phase"] == peak["actual_phase"] == "backward"


def test_reasons_stand_beside_what_differs():
    _, _, told, _ = shown(lambda process: compared(process, activation=0.5))
    assert told["differs"]
    assert {r["category"] for r in told["reasons"]} == {"activation"}
    for reason in told["reasons"]:
        assert set(reason) == {"kind", "category", "text", "bytes"}


def test_without_a_prediction_it_says_why_and_every_key_is_there():
    _, _, told, _ = shown(lambda _: Prediction(problem="torch is not installed here"))
    assert set(told) == KEYS
    assert told["problem"] == "torch is not installed here"
    assert (told["moments"], told["reasons"], told["peak"]) == ([], [], None)


def lines(prediction_of, width=80):
    snapshot, made, _, _ = shown(prediction_of)
    return text.render(snapshot, width, predictions=made).splitlines()


def test_the_text_has_a_line_for_it():
    (line,) = [line for line in lines(compared, 120) if line.startswith("predicted peak")]
    assert line.endswith("GiB, trace: as predicted (within 3 %)")
    told = " ".join(lines(lambda process: compared(process, activation=0.5)))
    assert "trace: more than 3 % off" in told
    assert " → activations +" in told
    late = lines(lambda _: Prediction(problem="not predicted within 20 s"))
    assert "no prediction: not predicted within 20 s" in late
