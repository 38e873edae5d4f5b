"""The app in a real terminal: its exit code, what it leaves behind, what it remembers."""

import json
import os
import pty
import select
import sys
import time

PROGRAM = (
    "import sys; from vramtop.sources.fake import FakeSource; from vramtop.tui.app import run_app;"
    "sys.exit(run_app(FakeSource()))"
)


def in_terminal(env, keys, wait_for):
    """Run the app under a pty, press keys when a text has appeared; (exit code, output)."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-c", PROGRAM], env)
    output, deadline = b"", time.monotonic() + 30
    left = list(keys)
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                output += os.read(terminal, 1 << 16)
            except OSError:
                break
        if left and wait_for in output:
            os.write(terminal, bytes([left.pop(0)]))
            time.sleep(0.3)  # a dialog opens before a person's next key
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output


def test_it_ends_with_0_gives_the_terminal_back_and_remembers(tmp_path):
    env = {**os.environ, "TERM": "xterm-256color", "XDG_STATE_HOME": str(tmp_path)}
    code, output = in_terminal(env, b"suq", b"4101")
    assert code == 0
    assert output.rindex(b"\x1b[?1049l") > output.rindex(b"\x1b[?1049h")  # left the second screen
    state = json.loads((tmp_path / "vramtop" / "state.json").read_text())
    assert state["sort_key"] == "user"
    assert state["pane"] == "processes"


def test_a_strange_memory_is_no_reason_to_fail(tmp_path):
    path = tmp_path / "vramtop" / "state.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"theme": 7, "sort_key": ["x"], "pane": {}, "descending": None}))
    env = {**os.environ, "TERM": "xterm-256color", "XDG_STATE_HOME": str(tmp_path)}
    code, _ = in_terminal(env, b"q", b"4101")
    assert code == 0
