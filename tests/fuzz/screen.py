"""What got through the client, on the live screen: every pane, the details, the problems."""

import asyncio
import contextlib
from unittest.mock import patch

from tests.fuzz import rendering, viewer_wire
from tests.fuzz.harness import Fuzzer
from tests.fuzz.rendezvous import runtime_directory
from vramtop.errors import UsageError
from vramtop.predict import predictions
from vramtop.tui.app import VramtopApp

_SIZE = (150, 60)


class Source:
    """Delivers what it is given."""

    period_s = 1.0
    deliver = None

    def start(self, deliver):
        self.deliver = deliver

    def stop(self):
        pass


def _not_here(*_):
    raise UsageError("made-up trainings are not predicted")


@contextlib.contextmanager
def _opened():
    source = Source()
    with (
        runtime_directory() as directory,
        patch.object(predictions, "expect", _not_here),
        asyncio.Runner() as runner,
    ):
        app = VramtopApp(source)
        test = app.run_test(size=_SIZE)
        pilot = runner.run(test.__aenter__())

        async def show(snapshots):
            for snapshot in snapshots:
                source.deliver(snapshot)
            await look()
            for action in ("details", "problems", "post_mortem"):  # not by keys: those wait
                await app.run_action(action)
                await look()
                if len(app.screen_stack) > 1:
                    await app.pop_screen()
            assert app.is_running, "the app has ended"

        async def look():
            for _ in range(2):  # all messages; a pause would wait for an idle machine as well
                await pilot._wait_for_screen()
                app.screen._on_timer_update()
            for strip in app.screen._compositor.render_strips():
                rendering.assert_clean("".join(segment.text for segment in strip))

        try:
            runner.run(pilot.pause())
            yield lambda stream: runner.run(show(list(viewer_wire.heard(directory, stream))[:1]))
        finally:
            runner.run(test.__aexit__(None, None, None))


FUZZER = Fuzzer(
    "what the screen shows",
    _opened,
    viewer_wire.mutated,
    viewer_wire.STREAMS,
    suite_inputs=8,
    traced=False,
)
