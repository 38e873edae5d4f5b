"""An app over a source that delivers when told, and ways to read what is on its screen."""

import contextlib
from itertools import islice

import pytest

from vramtop.errors import UsageError
from vramtop.predict import predictions
from vramtop.sources.fake import snapshots
from vramtop.tui.app import VramtopApp
from vramtop.tui.panes import Pane


class SteppedSource:
    """A source whose snapshots come when the test says so;."""

    def __init__(self, scenario="training", first=2):
        self.period_s = 1.0
        self.stopped = False
        self._snapshots = snapshots(scenario)
        self._first = first
        self._deliver = None

    def start(self, deliver):
        self._deliver = deliver
        self.step(self._first)

    def step(self, count=1):
        for snapshot in islice(self._snapshots, count):
            self._deliver(snapshot)

    def give(self, snapshot):
        self._deliver(snapshot)

    def stop(self):
        self.stopped = True


class Screen:
    """What a person sees, as lines of text."""

    def __init__(self, app, pilot, source):
        self.app, self.pilot, self.source = app, pilot, source

    @property
    def lines(self):
        strips = self.app.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip) for strip in strips]

    @property
    def text(self):
        return "\n".join(self.lines)

    def line_with(self, words):
        return next(line for line in self.lines if words in line)

    def row_of(self, words):
        """The y of the line."""
        return next(y for y, line in enumerate(self.lines) if words in line)

    def pids(self):
        """Pids of the process rows, from top to bottom."""
        head = self.row_of("PID")
        words = [line[1:9].strip() for line in self.lines[head + 1 :]]
        return [int(word) for word in words if word.isdigit()]

    def selected(self):
        return int(next(line for line in self.lines if line.startswith("▌"))[1:9])

    @property
    def words(self):
        """The text with every space and line end a single space."""
        return " ".join(self.text.split())

    def pane(self, name):
        """The lines of one pane."""
        region = self.app.query_one(f"#{name}").region
        rows = self.lines[region.y : region.bottom]
        return [row[region.x : region.right] for row in rows]

    def shown_panes(self):
        """Names of the panes that are there."""
        return [pane.NAME for pane in self.app.screen_stack[0].query(Pane) if pane.region]

    def cells(self, x, y):
        """(glyph, foreground) of a line from a column on."""
        strip = self.app.screen._compositor.render_strips()[y]
        found = [(char, s.style.color.name) for s in strip for char in s.text if s.style.color]
        return found[x:]

    async def press(self, *keys):
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def step(self, count=1):
        self.source.step(count)
        await self.pilot.pause()

    async def click(self, x, y):
        await self.pilot.click(offset=(x, y))
        await self.pilot.pause()


def _not_here(*_):
    """In place of seconds of a tracer for every app that is opened."""
    raise UsageError("made-up trainings are not predicted")


@pytest.fixture
def shown(monkeypatch):
    """Open the app: ``async with shown("training", size=(80, 24)) as screen``."""
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(predictions, "expect", _not_here)

    @contextlib.asynccontextmanager
    async def run(scenario="training", size=(160, 50), source=None, **options):
        source = source or SteppedSource(scenario)
        app = VramtopApp(source, **options)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await pilot.pause()
            yield Screen(app, pilot, source)

    return run


@pytest.fixture
def stepped():
    return SteppedSource
