"""Ledgers written by hand: which phases, peaks and categories come of them."""

from __future__ import annotations

from vramtop.probe.ledger import (
    ACTIVATION,
    BUFFER,
    CACHE,
    CONSTANT,
    DETAIL,
    GRADIENT,
    INPUT,
    KV,
    LOOSE,
    PARAMETER,
    RECOMPUTED,
    STATE,
    TEMPORARY,
    Ledger,
)
from vramtop.probe.replay import (
    BACKWARD,
    FORWARD,
    OTHER,
    STEP,
    ZERO_GRAD,
    DeviceDetail,
    Replay,
    activations_by_module,
    settle,
    undo_detours,
)
from vramtop.probe.updates import detail_message

TENSORS = (
    *("parameter", "gradient", "optimizer_state", "activation"),
    *("input", "temporary", "autograd_detail", "unknown"),
)
EVALUATION = "evaluation"
CPU = "cpu"


class Story:
    """What happened, told in order; names stand for storages."""

    def __init__(self):
        self.ledger = Ledger()
        self.marks = []
        self.boundaries = []
        self.sums = []
        self.first_event = 0
        self._records = {}

    def there(self, name, kind, size, device=CPU):
        self.ledger.before.append(self._record(name, kind, size, device))
        return self

    def made(self, name, kind, size, module=None, device=CPU):
        self.ledger.events.append(self._record(name, kind, size, device, module))
        return self

    def sum(self, name, kind, size, added_to):
        self.made(name, kind, size)
        self.sums.append((len(self.ledger.events) - 1, self._records[added_to]))
        return self

    def gone(self, *names):
        self.ledger.events.extend(~self._records.pop(name) for name in names)
        return self

    def rename(self, name, to):
        self._records[to] = self._records.pop(name)
        return self

    def phase(self, name):
        self.marks.append((len(self.ledger.events), name))
        return self

    def boundary(self, what):
        self.boundaries.append((len(self.ledger.events), what))
        return self

    def round(self):
        self.first_event = len(self.ledger.events)
        return self

    def replayed(self):
        undo_detours(self.ledger, self.sums)
        settle(self.ledger, self.marks)
        return Replay(self.ledger, self.marks, self.boundaries, self.first_event).devices

    def told(self, device=CPU):
        return detail_message(device, None, DeviceDetail(self.replayed()[device], None, []), [], [])

    def _record(self, name, kind, size, device, module=None):
        ledger = self.ledger
        index = self._records[name] = len(ledger.sizes)
        ledger.sizes.append(size)
        ledger.devices.append(device)
        ledger.kinds.append(kind)
        ledger.modules.append(module)
        return index


def trained():
    """A model with its optimizer's state, before a forward."""
    return Story().there("p", PARAMETER, 1000).there("s", STATE, 2000)


def forward(story, output="y", size=300):
    return story.phase(FORWARD).made(output, ACTIVATION, size)


def backward(story, output="y", gradient=None):
    story.phase(BACKWARD).made("d", DETAIL, 150)
    if gradient:
        story.made(gradient, GRADIENT, 1000)
    return story.gone("d", output).phase(OTHER)


def names(detail):
    return [(phase["name"], phase["count"]) for phase in detail["phases"]]


def ends(detail):
    return [(phase["before_bytes"], phase["after_bytes"]) for phase in detail["phases"]]


def adds_up(detail):
    """Every sum that a reader may rely on."""
    last = None
    for phase in detail["phases"]:
        assert sum(phase["after"][f"{name}_bytes"] for name in TENSORS) == phase["after_bytes"]
        assert phase["peak_bytes"] >= max(phase["before_bytes"], phase["after_bytes"])
        if last is not None:
            assert phase["before_bytes"] == last["after_bytes"]
        last = phase
    peak = detail["peak"]
    assert sum(peak["breakdown"][f"{name}_bytes"] for name in TENSORS) == peak["total_bytes"]
    assert peak["total_bytes"] == max(phase["peak_bytes"] for phase in detail["phases"])
    assert peak["phase"] in {phase["name"] for phase in detail["phases"]}


def test_a_plain_step():
    story = forward(trained())
    backward(story, gradient="g")
    story.phase(STEP).made("t", TEMPORARY, 500).gone("t").phase(OTHER).gone("g")
    detail = story.told()
    adds_up(detail)
    assert names(detail) == [("forward", 1), ("backward", 1), ("step", 1), ("zero_grad", 1)]
    assert ends(detail) == [(3000, 3300), (3300, 4000), (4000, 4000), (4000, 3000)]
    assert [phase["peak_bytes"] for phase in detail["phases"]] == [3300, 4450, 4500, 4000]
    assert detail["peak"]["phase"] == "step"
    assert detail["peak"]["breakdown"]["temporary_bytes"] == 500
    assert detail["peak"]["breakdown"]["gradient_bytes"] == 1000


def test_accumulated_gradients_are_one_line_each():
    story = forward(trained().there("x", INPUT, 10))
    backward(story, gradient="g")
    for _ in range(3):  # the next batch is made while the last one is still there
        story.made("next x", INPUT, 10).gone("x")
        story.rename("next x", "x")
        forward(story)
        backward(story)
    story.phase(STEP).phase(OTHER).gone("g")
    detail = story.told()
    adds_up(detail)
    assert names(detail) == [("forward", 4), ("backward", 4), ("step", 1), ("zero_grad", 1)]
    # Forward ends with the last one's activations on top of the gradients.
    assert ends(detail)[0] == (3010, 4310)
    assert ends(detail)[-1] == (4010, 3010)


def test_several_forwards_a_backward():
    story = trained()
    for index in range(3):
        forward(story, f"y{index}")
        # What keeps the runs apart is an evaluation between them.
        story.phase(EVALUATION).made("e", ACTIVATION, 900).gone("e")
    story.phase(BACKWARD).made("g", GRADIENT, 1000).gone("y0", "y1", "y2").phase(OTHER)
    detail = story.told()
    adds_up(detail)
    assert names(detail) == [("forward", 3), ("evaluation", 3), ("backward", 1)]
    assert ends(detail)[0] == (3000, 3900)


def test_two_networks_in_turn():
    story = trained()
    for _ in range(2):  # discriminator and generator: the same phases, each with its step
        forward(story)
        backward(story, gradient="g")
        story.phase(STEP).phase(OTHER).gone("g")
    detail = story.told()
    adds_up(detail)
    assert names(detail)[:3] == [("forward", 2), ("backward", 2), ("step", 2)]
    assert detail["phases"][3]["name"] == "zero_grad"


def test_gradients_that_are_zeroed_stay():
    story = trained().there("g", GRADIENT, 1000)
    forward(story)
    backward(story)
    story.phase(STEP).phase(OTHER).phase(ZERO_GRAD).phase(OTHER)
    detail = story.told()
    adds_up(detail)
    assert names(detail)[-1] == ("zero_grad", 1)
    assert ends(detail)[-1] == (4000, 4000)


def test_zero_grad_before_the_forward_and_inside_it():
    before = trained().there("g", GRADIENT, 1000).gone("g")
    forward(before)
    detail = before.told()
    adds_up(detail)
    assert names(detail) == [("zero_grad", 1), ("forward", 1)]

    # Forward, zero_grad, backward: what is left of the forward's time is no phase of its own.
    inside = forward(trained().there("g", GRADIENT, 1000)).gone("g").made("loss", ACTIVATION, 4)
    inside.phase(BACKWARD).made("g2", GRADIENT, 1000).gone("y")
    detail = inside.told()
    assert names(detail) == [("forward", 1), ("zero_grad", 1), ("backward", 1)]
    assert ends(detail)[1][0] == ends(detail)[0][1]


def test_gradients_that_go_inside_step_or_backward_are_no_zero_grad():
    story = trained().there("g", GRADIENT, 1000)
    forward(story)
    story.phase(BACKWARD).gone("g").made("g2", GRADIENT, 1000).gone("y").phase(STEP).gone("g2")
    assert [name for name, _ in names(story.told())] == ["forward", "backward", "step"]


def test_only_the_round_is_told_but_what_was_there_counts():
    story = forward(trained(), "old", 700).phase(OTHER).gone("old").made("kept", ACTIVATION, 50)
    story.round()
    forward(story)
    detail = story.told()
    assert ends(detail) == [(3050, 3350)]
    assert detail["peak"]["total_bytes"] == 3350  # the 3,700 were before


def test_the_peak_and_who_made_it():
    story = trained()
    story.phase(FORWARD).made("a", ACTIVATION, 100, module="first")
    story.made("b", ACTIVATION, 400, module="second").gone("b")
    story.made("c", ACTIVATION, 399, module="third")
    replay = story.replayed()[CPU]
    assert replay.peak_bytes == 3500
    assert story.ledger.modules[replay.peak_record] == "second"
    held = activations_by_module(story.ledger, CPU, replay.most_activations_at)
    assert held == {"first": 100, "second": 400}


def test_a_peak_at_the_start_was_made_by_nobody():
    story = forward(trained().there("g", GRADIENT, 1000).gone("g"))
    replay = story.replayed()[CPU]
    assert (replay.peak_bytes, replay.peak_record) == (4000, None)


def test_sizes_at_boundaries():
    story = forward(trained().there("b", BUFFER, 7)).boundary("ends")
    backward(story, gradient="g").boundary("step begins")
    sizes = story.replayed()[CPU].sizes_at
    #                  par.  grad. state act. in tmp. det. unk. | buffer cache kv recomputed
    assert sizes["ends"] == [1007, 0, 2000, 300, 0, 0, 0, 0, 7, 0, 0, 0]
    assert sizes["step begins"] == [1007, 1000, 2000, 0, 0, 0, 0, 0, 7, 0, 0, 0]


def test_parts_are_inside_their_categories():
    story = trained().phase(FORWARD).made("k", KV, 30).made("c", CACHE, 20)
    story.phase(BACKWARD).made("r", RECOMPUTED, 9)
    detail = story.told()
    adds_up(detail)
    after = detail["phases"][-1]["after"]
    assert after["activation_bytes"] == 50
    assert (after["kv_cache_bytes"], after["autocast_cache_bytes"]) == (30, 20)
    assert (after["autograd_detail_bytes"], after["recomputed_bytes"]) == (9, 9)


def test_devices_are_told_apart():
    story = trained().there("p1", PARAMETER, 5, device="cuda:1").phase(FORWARD)
    story.made("y", ACTIVATION, 512, device="cuda:1").made("z", ACTIVATION, 8)
    parts = story.replayed()
    assert (parts["cuda:1"].peak_bytes, parts[CPU].peak_bytes) == (517, 3008)


def test_what_became_of_it_gives_the_kind():
    story = trained().phase(FORWARD).made("mask", CONSTANT, 11).phase(OTHER)
    story.made("norm", LOOSE, 22).gone("norm").made("history", LOOSE, 33)
    story.phase(STEP).phase(OTHER).made("batch", LOOSE, 44)
    story.replayed()
    by_size = dict(zip(story.ledger.sizes, story.ledger.kinds, strict=True))
    unknown = TENSORS.index("unknown")
    assert [by_size[size] for size in (11, 22, 33, 44)] == [INPUT, TEMPORARY, unknown, INPUT]


def test_sums_made_only_because_somebody_looked_are_taken_out():
    story = trained().phase(BACKWARD).made("g1", DETAIL, 600)
    story.made("g2", DETAIL, 600).sum("g1+g2", DETAIL, 600, added_to="g1").gone("g1", "g2")
    detail = story.told()
    adds_up(detail)
    assert detail["peak"]["total_bytes"] == 3000 + 2 * 600  # without the look: added in place

    # One whose parts are still needed was made by the formula.
    story = trained().phase(BACKWARD).made("g1", DETAIL, 600)
    story.sum("sum", DETAIL, 600, added_to="g1").made("other", DETAIL, 1).gone("g1")
    assert story.told()["peak"]["total_bytes"] == 3000 + 2 * 600 + 1


def test_hardly_anything_between_phases_is_left_out():
    story = forward(trained())
    backward(story, gradient="g").made("norm", LOOSE, 4).gone("norm").phase(STEP).phase(OTHER)
    assert [name for name, _ in names(story.told())] == ["forward", "backward", "step"]
    story = forward(trained())
    backward(story, gradient="g").made("copy", LOOSE, 4000).gone("copy").phase(STEP).phase(OTHER)
    assert [name for name, _ in names(story.told())] == ["forward", "backward", "other", "step"]


def test_the_peak_is_in_a_phase_that_is_told_of():
    # Amid a step a signal handler has evaluated another model; then the next batch is made.
    story = trained().phase("evaluation").round().made("y", LOOSE, 1).gone("y").phase(OTHER)
    detail = story.made("batch", LOOSE, 2).phase(FORWARD).told()
    adds_up(detail)
    assert names(detail) == [("evaluation", 1)]

    story = backward(forward(trained()), gradient="g")
    story.made("batch", LOOSE, 4000).made("transposed", LOOSE, 4000).gone("transposed")
    detail = forward(story, "y2").told()
    adds_up(detail)
    assert names(detail) == [("forward", 1), ("backward", 1), ("forward", 1)]
    assert detail["peak"]["phase"] == "forward"

    detail = forward(trained().there("g", GRADIENT, 1000).gone("g")).told()
    adds_up(detail)
    assert detail["peak"]["phase"] == "zero_grad"  # at its beginning


def test_a_round_in_which_nothing_happens_is_told_nevertheless():
    # As between two evaluations in a signal handler, of a model that is not the training's.
    detail = trained().phase("evaluation").round().phase(OTHER).told()
    assert names(detail) == [("evaluation", 1), ("other", 1)]
    assert ends(detail) == [(3000, 3000), (3000, 3000)]
    assert detail["peak"]["phase"] == "evaluation"
