"""``python -m tests.recording``: the explorer's climb to the cliff as screenshots/explorer.gif.

The real app of ``vramtop explore`` with the trace's answer, its own keys and its own clock's
steps: every frame is what the terminal would show. Needs rsvg-convert (Debian: librsvg2-bin) and a
monospaced font with block glyphs (fonts-dejavu-core); Pillow is one of the dev dependencies.
"""

import asyncio
import io
import os
import subprocess

from PIL import Image

from tests.screenshots import FOLDER, for_rsvg
from tests.screenshots_explore import WORKLOAD, open_explorer
from vramtop.tui.explore_app import ExploreApp
from vramtop.tui.theme import DARK

SIZE = (120, 36)
FRAMES_PER_S = 12
STILL_S = 2.0
REST_S = 3.0
LIMIT_BYTES = 3_000_000
ZOOM = 0.75
COLOURS = 64
OUT = FOLDER / "explorer.gif"


async def record():
    """(SVG, milliseconds) of every frame."""
    frames = []
    app = ExploreApp(WORKLOAD, theme=DARK)
    async with app.run_test(size=SIZE) as pilot:
        screen = await open_explorer(app, pilot)

        async def keep(seconds):
            await pilot.pause()
            svg = app.export_screenshot(title="vramtop explore llama-2-7b")
            frames.append((svg, round(1000 * seconds)))

        await keep(STILL_S)
        await pilot.press("space")
        screen.player.halt()  # the clock is ours: a frame for every step of it
        while screen.player.scene.act != "rest":
            await keep(1 / FRAMES_PER_S)
            screen.player.advance(1 / FRAMES_PER_S)
        await keep(REST_S)
        await pilot.press("v")
        await keep(REST_S)
    return frames


def image_of(svg):
    """A frame in few colours."""
    done = subprocess.run(
        ["rsvg-convert", "--zoom", str(ZOOM)],
        input=for_rsvg(svg).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return Image.open(io.BytesIO(done.stdout)).convert("RGB")


def main():
    """Play, convert, write."""
    os.environ["COLORTERM"] = "truecolor"
    frames = asyncio.run(record())
    images = [image_of(svg) for svg, _ in frames]
    palette = images[len(images) * 4 // 5].quantize(COLOURS)  # all colours are there by then
    flat = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    flat[0].save(
        OUT,
        save_all=True,
        append_images=flat[1:],
        duration=[milliseconds for _, milliseconds in frames],
        loop=0,
        optimize=True,
    )
    size = OUT.stat().st_size
    print(f"{OUT}: {len(frames)} frames, {size / 1e6:.2f} MB")
    if size > LIMIT_BYTES:
        raise SystemExit("too large for a repository")


if __name__ == "__main__":
    main()
