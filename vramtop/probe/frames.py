"""Whether any thread is just running a function whose loop must not be disturbed."""

from __future__ import annotations

import sys
from typing import Any


def is_running(function: str, file: str) -> bool:
    """Whether a function of that name and file is on the stack of any thread.

    What the caller does at once after a no still holds: the interpreter lets a thread that has
    just come on run for 5 ms (``sys.setswitchinterval``), and this takes some 20 microseconds.
    """
    for top in sys._current_frames().values():
        frame: Any = top
        while frame is not None:
            code = frame.f_code
            if code.co_name == function and code.co_filename == file:
                return True
            frame = frame.f_back
    return False


def is_importing() -> bool:
    """Whether any thread goes through ``sys.meta_path``: a finder less would have it skip one."""
    return is_running("_find_spec", "<frozen importlib._bootstrap>")
