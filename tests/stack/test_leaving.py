"""The terminal is given back whatever ends the app."""

import os
import signal

import pytest

from tests.stack.screen import Screen


@pytest.mark.parametrize(
    ("how", "code"), [("q", 0), ("\x03", 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_the_terminal_is_restored(tmp_path, how, code):
    env = {"VRAMTOP_RUNTIME_DIR": str(tmp_path / "run"), "XDG_STATE_HOME": str(tmp_path)}
    with Screen("--backend", "host", env=env) as screen:
        screen.wait_for("host RAM")
        if isinstance(how, str):
            screen.send(how)
        else:
            os.kill(screen.pid, how)
        assert screen.exit_code() == code
        # Off: the alternate screen, mouse tracking; on: the cursor.
        for sequence in (b"\x1b[?1049l", b"\x1b[?1000l", b"\x1b[?25h"):
            assert screen.received.rfind(sequence) > screen.received.rfind(
                sequence.replace(b"l", b"h") if sequence.endswith(b"l") else b"\x1b[?25l"
            )
