"""What-if and the batch explorer over the live screen: whose workload they begin from."""

import dataclasses
from types import SimpleNamespace

import pytest

from vramtop.core.breakdowns import breakdown_of
from vramtop.core.fleet import ObservedPeak
from vramtop.estimator import closed
from vramtop.estimator.catalog import find_model
from vramtop.estimator.judge import usable_bytes
from vramtop.estimator.live.fitted import FittedPredictor, fit
from vramtop.estimator.workload import Device, Workload
from vramtop.predict.predictions import Prediction

GIB = 1 << 30
REBUILT = Workload(
    find_model("distilgpt2"),
    batch=3,
    sequence=256,
    precision="fp32",
    device=Device("Fake H100 80GB HBM3", 76 * GIB),
)


class Predict:
    """In place of the app's predictions: answers when the test says so."""

    def __init__(self):
        self.prediction = Prediction(progress="step 1 of 2 50 %")
        self.asked = []

    def __call__(self, process, torch_device, fleet):
        self.asked.append((process.pid, torch_device))
        return self.prediction

    def close(self):
        pass


def rebuilt(workload=REBUILT):
    return Prediction(expecting=SimpleNamespace(workload=workload))


def line_of(each_bytes=2 * GIB):
    """1 GiB that lasts, and so much for each sample; known from two batches."""
    line = fit([(batch, GIB + each_bytes * batch) for batch in (2, 4)], GIB)
    predictor = FittedPredictor({"parameter": GIB}, line, 1.0, GIB)
    return Prediction(expecting=SimpleNamespace(workload=None, predictor=predictor))


@pytest.fixture
def open_app(shown, monkeypatch):
    """The live screen with predictions of the test's own; formulas alone answer."""
    from vramtop.trace import client

    monkeypatch.setattr(client, "why_not", lambda: "torch is not installed here")

    def run(**options):
        return shown(**{"size": (120, 40), **options})

    return run


def with_predictions(screen):
    predict = screen.app._predict = Predict()
    screen.app._change()
    return predict


async def test_a_live_process_is_explored_as_soon_as_it_is_rebuilt(open_app):
    async with open_app() as screen:
        predict = with_predictions(screen)
        await screen.press("e")
        assert "this is gpt2 while process 4101 is rebuilt: step 1 of 2 50 %" in screen.words
        assert predict.asked[-1] == (4101, "cuda:0")
        predict.prediction = rebuilt()
        await screen.step()
        assert "distilgpt2 · training · from pid 4101 cuda:0" in screen.lines[0]
        assert "is rebuilt" not in screen.text
        exploring = screen.app._exploring
        assert exploring.exploration.workload == REBUILT
        # The card has 80 GiB, of which the workload's device has 76: the rest is others'.
        assert exploring.exploration.others_bytes == 4 * GIB
        assert "other processes" in screen.text
        await screen.press("down", "right")
        assert exploring.exploration.workload.batch == 4
        await screen.step()
        assert exploring.exploration.workload.batch == 4, "what the user did stays"
        await screen.press("escape")
        assert "2 Processes" in screen.text
        assert screen.app._exploring is None


async def test_what_the_process_has_outside_its_allocator_is_its_own(open_app):
    async with open_app() as screen:
        with_predictions(screen).prediction = rebuilt()
        await screen.press("e")
        outside = breakdown_of(screen.app.frame.process, "cuda:0").outside_allocator_bytes
        exploring = screen.app._exploring

        def context():
            return exploring.exploration.estimate.footprint.components["context"]

        usual = closed.predictor(REBUILT).at(1).components["context"]
        assert context() == outside != usual
        exploring.change(REBUILT.with_batch(7))
        assert context() == outside
        exploring.change(dataclasses.replace(REBUILT, model=find_model("gpt2")))
        assert context() == usual, "another model is another process"
        exploring.undo()
        assert context() == outside


async def test_observed_peaks_come_along(open_app):
    async with open_app() as screen:
        predict = with_predictions(screen)
        predict.prediction = rebuilt()
        await screen.press("e")
        exploring = screen.app._exploring
        before = exploring.exploration.observed
        seen = ObservedPeak(5, 256, 3 * GIB, 12)
        frame = screen.app.frame
        key = (frame.process.key, "cuda:0")
        fleet = dataclasses.replace(frame.fleet, observed={**frame.fleet.observed, key: (seen,)})
        screen.app.frame = dataclasses.replace(frame, fleet=fleet)
        await screen.pilot.pause()
        assert exploring.exploration.observed == (seen,) != before


@pytest.mark.parametrize(
    ("prediction", "said"),
    [
        (Prediction(problem="its optimizer is unknown"), "not process 4101: its optimizer is"),
        (None, "not process 4101: its memory is not explained"),
    ],
)
async def test_what_cannot_be_rebuilt_is_said(open_app, prediction, said):
    async with open_app() as screen:
        predict = with_predictions(screen)
        predict.prediction = prediction
        await screen.press("e")
        assert said in screen.words
        assert "this is gpt2" in screen.words
        assert "gpt2 · training" in screen.lines[0]


@pytest.mark.parametrize("key", ["e", "b"])
@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_of_a_fitted_line_the_batch_is_explored(open_app, key, size):
    async with open_app(size=size) as screen:
        with_predictions(screen).prediction = line_of()
        await screen.press(key)
        assert type(screen.app.screen).__name__ == "ExplorerScreen"
        exploring = screen.app._exploring
        exploration = exploring.exploration
        assert "gpt2" not in screen.text
        name = screen.app.frame.process.probe.models[0].class_name
        assert f"batch explorer {name} · pid 4101 cuda:0 on" in screen.lines[0]
        assert "likely" in screen.words
        assert "fitted -27 to +70 %" in screen.words
        assert ("no what-if: its model cannot be rebuilt here" in screen.words) == (key == "e")
        # 1 GiB lasts, 2 GiB a sample, 1 GiB is outside the allocator.
        largest = exploration.estimate.max_micro_batch
        usable = usable_bytes(exploration.workload.device)
        assert largest == (usable - 2 * GIB) // (2 * GIB)
        assert f" {largest} max" in screen.text
        await screen.press("home", "right", "right")
        assert " batch 3 × " in screen.text
        assert exploring.exploration.estimate.footprint.method == "fitted"
        await screen.press("e")
        assert "no what-if: its model cannot be rebuilt here" in screen.words
        assert type(screen.app.screen).__name__ == "ExplorerScreen"
        exploring.say("")
        await screen.press("v")
        assert "other sequences are not known" in screen.words
        await screen.press("enter")
        assert "only the peak is known, not the phases" in screen.words
        await screen.press("escape", "end")
        assert "more than there is" in screen.words
        await screen.press("space", "space", "escape")
        assert screen.app._exploring is None


async def test_a_newer_line_is_taken_and_the_cursor_stays(open_app):
    async with open_app() as screen:
        predict = with_predictions(screen)
        predict.prediction = line_of()
        await screen.press("b", "home", "right")
        exploring = screen.app._exploring
        before = exploring.exploration.estimate.max_micro_batch
        await screen.step()
        assert exploring.exploration.predictor is predict.prediction.expecting.predictor
        predict.prediction = line_of(each_bytes=4 * GIB)
        await screen.step()
        assert exploring.exploration.estimate.max_micro_batch == before // 2
        assert " batch 2 × " in screen.text


async def test_a_line_that_comes_while_what_if_is_open_is_told_of(open_app):
    async with open_app() as screen:
        predict = with_predictions(screen)
        await screen.press("e")
        assert "while process 4101 is rebuilt" in screen.words
        predict.prediction = line_of()
        await screen.step()
        said = "process 4101 cannot be rebuilt here; esc, then b, explores its batch alone"
        assert said in screen.words
        assert "gpt2 · training" in screen.lines[0]
        await screen.press("escape")
        predict.prediction = Prediction(progress="waiting")
        await screen.press("b")
        assert "this is gpt2 while process 4101" in screen.words
        predict.prediction = line_of()
        await screen.step()
        assert "this is gpt2" not in screen.words
        assert screen.app._exploring.exploration.is_fitted


async def test_what_comes_later_is_taken_unless_the_user_has_begun(open_app):
    async with open_app() as screen:
        predict = with_predictions(screen)
        predict.prediction = Prediction(problem="it waits for a step sampled in detail")
        await screen.press("e")
        assert "not process 4101: it waits" in screen.words
        predict.prediction = rebuilt()
        await screen.step()
        assert "distilgpt2 · training · from pid 4101" in screen.lines[0]
        await screen.press("escape")
        predict.prediction = Prediction(problem="it waits for a step sampled in detail")
        await screen.press("e", "down", "right")
        predict.prediction = rebuilt()
        await screen.step()
        assert "gpt2 · training" in screen.lines[0]
        assert screen.app._exploring.exploration.workload.batch == 9
        assert "process 4101 is rebuilt now: esc, then e, explores it" in screen.words


async def test_a_process_that_ends_is_waited_for_no_longer(open_app):
    async with open_app() as screen:
        with_predictions(screen)
        await screen.press("e")
        assert "while process 4101 is rebuilt" in screen.words
        frame = screen.app.frame
        snapshot = dataclasses.replace(frame.fleet.snapshot, processes=())
        fleet = dataclasses.replace(frame.fleet, snapshot=snapshot, gone={})
        screen.app.frame = dataclasses.replace(frame, fleet=fleet)
        await screen.pilot.pause()
        assert "this is gpt2: process 4101 has ended" in screen.words


async def test_without_a_probe_a_small_model_on_the_gpu(open_app):
    async with open_app() as screen:
        predict = with_predictions(screen)
        asked = len(predict.asked)
        while screen.selected() != 4102:
            await screen.press("down")
        await screen.press("e")
        said = "this is gpt2 on GPU 0: process 4102 has no probe (vramtop run -- … gives it one)"
        assert said in screen.words
        assert not [pid for pid, _ in predict.asked[asked:] if pid == 4102]
        exploration = screen.app._exploring.exploration
        assert exploration.others_bytes > 0
        total = exploration.others_bytes + exploration.workload.device.total_bytes
        assert total == screen.app.frame.fleet.snapshot.devices[0].memory.total_bytes


async def test_b_opens_the_explorer_and_leads_to_what_if(open_app):
    async with open_app() as screen:
        predict = with_predictions(screen)
        predict.prediction = rebuilt()
        await screen.press("b")
        assert type(screen.app.screen).__name__ == "ExplorerScreen"
        await screen.press("e")
        assert "distilgpt2 · training" in screen.lines[0]
        assert type(screen.app.screen).__name__ == "WhatIfScreen"
        await screen.press("b")
        assert type(screen.app.screen).__name__ == "ExplorerScreen"
        await screen.press("escape", "escape")
        assert "2 Processes" in screen.text
        assert screen.app._exploring is None
        await screen.press("b", "escape")
        assert "2 Processes" in screen.text
        assert screen.app._exploring is None


async def test_in_80_columns_the_point_is_below_the_curve(open_app):
    async with open_app(size=(80, 24)) as screen:
        with_predictions(screen).prediction = rebuilt()
        await screen.press("b")
        curve = screen.app.screen.query_one("#explorer-curve").region
        point = screen.app.screen.query_one("#explorer-point").region
        assert (curve.width, point.width) == (80, 80)
        assert point.y == curve.bottom
        await screen.pilot.resize_terminal(120, 40)
        await screen.pilot.pause()
        assert screen.app.screen.query_one("#explorer-point").region.width == 58


async def test_keys_of_the_live_screen_do_nothing_under_it(open_app):
    async with open_app() as screen:
        with_predictions(screen)
        await screen.press("e")
        await screen.press("e", "K", "T", "space", "s", "slash", "p", "1", "5")
        assert type(screen.app.screen).__name__ == "WhatIfScreen"
        assert not screen.app._view.paused
        await screen.press("question_mark")
        assert "undo the last change" in screen.text
        await screen.press("q", "q")
        assert screen.app._exit


async def test_footer_and_palette_have_both(open_app):
    async with open_app(size=(160, 40)) as screen:
        with_predictions(screen)
        assert "e What if" in screen.lines[-1]
        await screen.click(screen.lines[-1].index("What if"), 39)
        assert type(screen.app.screen).__name__ == "WhatIfScreen"
        x = screen.lines[-1].index("Undo")
        await screen.click(x, 39)
        assert "nothing to undo" in screen.words
