"""What the screen says before memory ends, and whom else it tells."""

from dataclasses import replace
from itertools import islice

import pytest

from tests.core.leaking_fake import leaking_snapshot
from vramtop.core.model import DeviceMemory
from vramtop.sources.fake import snapshots
from vramtop.tui.frame import View


class Given:
    """A source of the snapshots that the test gives."""

    period_s = 1.0

    def __init__(self, *first):
        self._first, self._deliver = first, None

    def start(self, deliver):
        self._deliver = deliver
        for snapshot in self._first:
            deliver(snapshot)

    def give(self, snapshot):
        self._deliver(snapshot)

    def stop(self):
        pass


def fuller(snapshot, percent):
    (device,) = snapshot.devices
    total = device.memory.total_bytes
    used = total * percent // 100
    memory = DeviceMemory(total, used, total - used)
    return replace(snapshot, devices=(replace(device, memory=memory),))


def plain(index=1):
    return next(islice(snapshots("nogpu"), index, None))


@pytest.mark.parametrize("theme", ["vramtop-dark", "vramtop-light"])
@pytest.mark.parametrize("size", [(160, 50), (80, 24), (60, 20)])
async def test_a_leak_is_in_the_status_line_in_warning_ink(shown, size, theme):
    async with shown(source=Given(leaking_snapshot()), size=size, theme=theme) as screen:
        status = screen.lines[0]
        assert "▲ OOM in ~59 min (pid 4201) " in status
        glyphs = screen.cells(0, 0)
        warned = {ink for glyph, ink in glyphs[status.index("▲") :] if glyph.strip()}
        calm = {ink for glyph, ink in glyphs[: status.index("▲")] if glyph.strip()}
        assert len(warned) == 1
        assert not warned & calm


async def test_without_colour_the_glyph_says_it(shown, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    async with shown(source=Given(leaking_snapshot()), size=(80, 24)) as screen:
        assert "▲ OOM in ~59 min (pid 4201)" in screen.lines[0]


async def test_of_a_healthy_training_nothing_is_said(shown):
    async with shown("nogpu") as screen:
        await screen.step(30)
        assert "▲" not in screen.lines[0]
        assert "OOM" not in screen.text


async def test_the_timeline_and_the_details_say_more(shown):
    async with shown(source=Given(leaking_snapshot())) as screen:
        assert "▲ OOM in ~59 min · device 64.0 GiB" in screen.text
        await screen.press("enter")
        assert "OOM in ~59 min / 11,000 steps at this growth (5.00 MiB a step, high" in screen.text
        assert "a leak: what is left between steps grows" in screen.words


async def test_a_full_device_is_said_where_a_threshold_is_set(shown):
    full = fuller(plain(), 93)
    async with shown(source=Given(full), view=View(alert_at_percent=90)) as screen:
        assert "▲ host RAM is 93% full (of 64.0 GiB)" in screen.lines[0]
    async with shown(source=Given(full)) as screen:
        assert "▲" not in screen.lines[0]


async def test_several_are_counted(shown):
    both = fuller(leaking_snapshot(), 93)
    async with shown(source=Given(both), view=View(alert_at_percent=90)) as screen:
        assert "▲ OOM in ~59 min (pid 4201) +1 more: p" in screen.lines[0]
        await screen.press("p")
        assert "OOM in ~59 min / 11,000 steps at this growth (5.00 MiB a step" in screen.words
        assert "▲ host RAM is 93% full (of 64.0 GiB)" in screen.words


async def test_whom_it_may_concern_is_told_at_every_snapshot_even_when_paused(shown):
    told = []

    def on_alerts(alerts, now):
        told.append(([alert.kind for alert in alerts], now))
        return "alert command failed: exit code 3" if alerts else ""

    source = Given(plain())
    async with shown(source=source, on_alerts=on_alerts) as screen:
        assert told == [([], plain().taken_at)]
        await screen.press("space")
        source.give(leaking_snapshot(2))
        await screen.pilot.pause()
        assert told[-1] == (["forecast"], leaking_snapshot(2).taken_at)
        await screen.press("space")
        source.give(leaking_snapshot(3))
        await screen.pilot.pause()
        assert "alert command failed: exit code 3" in screen.text
