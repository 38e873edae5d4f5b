"""``python -m tests.screenshots_explore``: SVG and PNG of what-if and explorer, into screenshots/.

The real app of ``vramtop explore``, with the trace's answer; PNG as in tests.screenshots.
"""

import asyncio
import os
import shutil

from tests.screenshots import FOLDER, to_png
from vramtop.estimator.catalog import find_gpu, find_model
from vramtop.estimator.workload import Workload
from vramtop.tui.explore_app import ExploreApp
from vramtop.tui.screens.explorer import ExplorerScreen
from vramtop.tui.theme import DARK, LIGHT

WORKLOAD = Workload(
    find_model("llama-2-7b"),
    batch=4,
    sequence=2048,
    checkpointing="full",
    device=find_gpu("a100-80gb"),
)
TRACE_S = 180

SHOTS = [
    # name, theme, (columns, rows), keys
    ("whatif-160x50-dark", DARK, (160, 50), ("down", *["left"] * 2)),
    ("whatif-160x50-light", LIGHT, (160, 50), ("down", *["left"] * 2)),
    ("whatif-80x24-dark", DARK, (80, 24), ("down", *["left"] * 2, "tab", "down")),
    ("whatif-80x24-light", LIGHT, (80, 24), ("down", *["left"] * 2)),
    ("whatif-models-80x24-dark", DARK, (80, 24), ("enter", *"qwen 7b")),
    ("explorer-160x50-dark", DARK, (160, 50), ("b",)),
    ("explorer-160x50-light", LIGHT, (160, 50), ("b",)),
    ("explorer-80x24-dark", DARK, (80, 24), ("b",)),
    ("explorer-80x24-light", LIGHT, (80, 24), ("b",)),
    ("explorer-map-160x50-dark", DARK, (160, 50), ("b", "v")),
    ("explorer-map-80x24-light", LIGHT, (80, 24), ("b", "v")),
    ("explorer-cliff-160x50-dark", DARK, (160, 50), ("b", "m", "right")),
    ("explorer-waterfall-80x24-dark", DARK, (80, 24), ("b", "enter")),
]


async def traced(app, pilot):
    """Wait for the trace's answer."""
    for _ in range(TRACE_S * 10):
        if app.exploring.exploration.is_exact:
            break
        await pilot.pause(0.1)
    else:
        raise SystemExit(f"no trace: {app.exploring.exploration}")


async def open_explorer(app, pilot):
    """Press b once the trace has answered; returns the screen."""
    await traced(app, pilot)
    await pilot.press("b")
    await pilot.pause(1.0)
    assert isinstance(app.screen, ExplorerScreen)
    return app.screen


async def shoot(name, theme, size, keys):
    """One picture."""
    app = ExploreApp(WORKLOAD, theme=theme)
    async with app.run_test(size=size) as pilot:
        await traced(app, pilot)
        await pilot.press(*keys)
        await pilot.pause(0.5)
        await traced(app, pilot)
        await pilot.pause(1.0)
        svg = app.export_screenshot(title="vramtop explore llama-2-7b")
    (FOLDER / f"{name}.svg").write_text(svg)


def main():
    """Take the pictures."""
    FOLDER.mkdir(exist_ok=True)
    os.environ["COLORTERM"] = "truecolor"  # textual asks the environment, not the test's terminal
    for name, theme, size, keys in SHOTS:
        asyncio.run(shoot(name, theme, size, keys))
        print(FOLDER / f"{name}.svg")
        if shutil.which("rsvg-convert") is not None:
            to_png(name)


if __name__ == "__main__":
    main()
