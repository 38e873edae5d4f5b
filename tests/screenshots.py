"""``python -m tests.screenshots``: SVG and PNG of the app on a real demo run, into screenshots/.

PNG needs rsvg-convert (Debian: librsvg2-bin) and a monospaced font with block glyphs
(fonts-dejavu-core); without them only the SVGs are written.
"""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

from vramtop.cli.demo import Training
from vramtop.sources.collector import Collector
from vramtop.tui.app import VramtopApp
from vramtop.tui.theme import DARK, LIGHT

FOLDER = Path(__file__).parents[1] / "screenshots"
SETTLE_S = 45
PREDICTED_S = 12
"""Until the training is predicted, which a trace of the same model takes."""
PNG_ZOOM = "1.0"

SHOTS = [
    # name, theme, (columns, rows), keys before the picture
    ("monitor-160x50-dark", DARK, (160, 50), ()),
    ("monitor-160x50-light", LIGHT, (160, 50), ()),
    ("monitor-80x24-dark", DARK, (80, 24), ()),
    ("monitor-80x24-light", LIGHT, (80, 24), ()),
    ("waterfall-80x24-dark", DARK, (80, 24), ("5",)),
    ("modules-80x24-dark", DARK, (80, 24), ("6",)),
    ("modules-80x24-light", LIGHT, (80, 24), ("6", "t")),
    ("predicted-160x50-dark", DARK, (160, 50), ("8", "8")),
    ("predicted-80x24-dark", DARK, (80, 24), ("8",)),
    ("predicted-80x24-light", LIGHT, (80, 24), ("8", "right")),
    ("help-80x24-dark", DARK, (80, 24), ("question_mark",)),
]


async def shoot(pid, name, theme, size, keys):
    """One picture of the app that looks at the training."""
    app = VramtopApp(Collector("auto", 1.0), select_pid=pid, theme=theme)
    async with app.run_test(size=size) as pilot:
        await pilot.pause(PREDICTED_S)
        await pilot.press(*keys)
        await pilot.pause(0.5)
        svg = app.export_screenshot(title="vramtop")
    (FOLDER / f"{name}.svg").write_text(svg)


def for_rsvg(svg):
    """With a font that is installed: the SVG names one from the web."""
    svg = svg.replace("Fira Code", "DejaVu Sans Mono")
    svg = svg.replace("<text ", '<text xml:space="preserve" ')  # rsvg drops leading spaces
    # rsvg does not know textLength: this size makes DejaVu's advance the 12.2 px of a cell.
    return svg.replace("font-size: 20px", "font-size: 20.265px")


def to_png(name):
    """Convert a picture that is there."""
    svg = for_rsvg((FOLDER / f"{name}.svg").read_text())
    command = ["rsvg-convert", "--zoom", PNG_ZOOM, "-o", str(FOLDER / f"{name}.png")]
    subprocess.run(command, input=svg.encode(), check=True)


def main():
    """Start the demo's training, let some time pass, take the pictures."""
    FOLDER.mkdir(exist_ok=True)
    os.environ["COLORTERM"] = "truecolor"  # textual asks the environment, not the test's terminal
    with Training() as training:
        print(f"training is process {training.pid}; waiting {SETTLE_S} s for a timeline")
        asyncio.run(asyncio.sleep(SETTLE_S))
        for name, theme, size, keys in SHOTS:
            asyncio.run(shoot(training.pid, name, theme, size, keys))
            training.check()
            print(FOLDER / f"{name}.svg")
    if shutil.which("rsvg-convert") is None:
        print("no rsvg-convert (Debian: librsvg2-bin): PNGs not made")
        return
    for name, *_ in SHOTS:
        to_png(name)


if __name__ == "__main__":
    main()
