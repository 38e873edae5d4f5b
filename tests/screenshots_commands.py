"""``python -m tests.screenshots_commands``: SVG and PNG of commands' output, into screenshots/."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from io import StringIO
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, DIMMED_MONOKAI
from rich.text import Text

from tests.screenshots import FOLDER, to_png

ESTIMATE = ("estimate", "llama-2-7b", "--batch", "4", "--seq", "512", "--gpu", "a100-80gb")
PLAN = ("plan", "llama-2-7b", "--gpu", "a100-80gb", "--gpus", "4")
EXPLORE = ("explore", "gpt2", "--batch", "8", "--seq", "512", "--gpu", "4090", "--once")
SHOTS = [
    # name, columns, theme, arguments
    ("estimate-100-dark", 100, DIMMED_MONOKAI, ESTIMATE),
    ("estimate-80-light", 80, DEFAULT_TERMINAL_THEME, ESTIMATE),
    ("plan-160-dark", 160, DIMMED_MONOKAI, PLAN),
    ("explore-once-100-dark", 100, DIMMED_MONOKAI, EXPLORE),
    ("postmortem-100-dark", 100, DIMMED_MONOKAI, ("postmortem",)),
]


def let_one_fail(folder):
    """A training that runs out of memory; its post-mortem is the only one there."""
    os.environ["VRAMTOP_RUNTIME_DIR"] = folder
    script = FOLDER.parent / "tests" / "stack" / "failing_gpt2.py"
    training = ("run", "--", sys.executable, script, "64", "300", "20")
    subprocess.run(
        [sys.executable, "-m", "vramtop", *training], stderr=subprocess.DEVNULL, check=False
    )


def in_terminal(arguments, columns, *, light):
    """What a command prints on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = dict(
        os.environ,
        TERM="xterm-256color",
        COLORTERM="truecolor",
        COLORFGBG="0;15" if light else "15;0",
    )
    with subprocess.Popen(
        [sys.executable, "-m", "vramtop", *arguments],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env=environment,
    ):
        os.close(theirs)
        text = b""
        try:
            while chunk := os.read(ours, 65536):
                text += chunk
        except OSError:  # the terminal is gone with the last process on it
            pass
    os.close(ours)
    return text.decode().replace("\r\n", "\n")


def main():
    """Run each command and keep its picture."""
    with TemporaryDirectory(prefix="vramtop-") as folder:
        let_one_fail(folder)
        shoot()


def shoot():
    """The commands' pictures."""
    for name, columns, theme, arguments in SHOTS:
        light = theme is DEFAULT_TERMINAL_THEME
        console = Console(record=True, width=columns, file=StringIO())
        console.print(Text.from_ansi(in_terminal(arguments, columns, light=light)))
        title = f"vramtop {' '.join(arguments)}"
        (FOLDER / f"{name}.svg").write_text(console.export_svg(title=title, theme=theme))
        to_png(name)


if __name__ == "__main__":
    main()
