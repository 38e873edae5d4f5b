"""``python -m tests.screenshots_ranks``: SVG and PNG of a job of eight ranks, into screenshots/.

The machine is a made-up one (``sources.fake``, its host is called fakehost): eight GPUs are not at
hand. What is drawn is the real app.
"""

import asyncio
import os
import shutil

from tests.screenshots import FOLDER, to_png
from vramtop.sources.fake import FakeSource
from vramtop.tui.app import VramtopApp
from vramtop.tui.theme import DARK, LIGHT

SETTLE_S = 6
SHOTS = [
    # name, theme, (columns, rows), keys before the picture
    # Modules, since of made-up ranks nothing can be predicted; then the processes again.
    ("ranks-160x50-dark", DARK, (160, 50), ("6", "2")),
    ("ranks-80x24-light", LIGHT, (80, 24), ()),
    ("ranks-unfolded-160x50-light", LIGHT, (160, 50), ("f", "6", "2")),
]


async def shoot(name, theme, size, keys):
    """One picture of the app on the made-up fleet."""
    app = VramtopApp(FakeSource("fleet"), theme=theme)
    async with app.run_test(size=size) as pilot:
        await pilot.pause(SETTLE_S)
        await pilot.press(*keys)
        await pilot.pause(0.5)
        svg = app.export_screenshot(title="vramtop")
    (FOLDER / f"{name}.svg").write_text(svg)
    print(FOLDER / f"{name}.svg")


def main():
    """Take the pictures one after the other."""
    os.environ["COLORTERM"] = "truecolor"  # textual asks the environment, not the test's terminal
    for shot in SHOTS:
        asyncio.run(shoot(*shot))
    if shutil.which("rsvg-convert") is None:
        print("no rsvg-convert (Debian: librsvg2-bin): PNGs not made")
        return
    for name, *_ in SHOTS:
        to_png(name)


if __name__ == "__main__":
    main()
