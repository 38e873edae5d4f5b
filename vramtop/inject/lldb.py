"""The debugger lldb, where gdb is not installed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from .debugger import LINE_FILE, SCRIPT_FILE, STOP_LIMIT_S
from .gdb import MAPPED_AS, PROTECTION
from .interpreter import ADD_PENDING_CALL, MAP_PAGE, RUN_STRING, Interpreter
from .place import is_seen
from .target import Target

_CALL_LIMIT_US = int(STOP_LIMIT_S / 3 * 1e6)


class Lldb:
    """Slower than gdb: it looks into every library, if it can before it stops the process."""

    name: Literal["gdb", "lldb"] = "lldb"
    stopping = re.compile(r"^\(lldb\) process attach ")
    running = re.compile(r"^Process \d+ detached")
    queued = re.compile(r"^\(int\) \$queued = (-?\d+)$")

    def command(self, pid: int) -> list[str]:  # noqa: ARG002
        """Without anybody's .lldbinit."""
        return ["lldb", "--no-lldbinit", "--batch", "-s", SCRIPT_FILE]

    def script(self, target: Target, interpreter: Interpreter, page_bytes: int) -> str:
        """A failed command ends the script, and lldb then detaches."""
        address = interpreter.addresses
        evaluate = f"expression -l c -u true -t {_CALL_LIMIT_US} --"
        map_page = f"((long (*)(long, long, long, long, long, long)) {address[MAP_PAGE]})"
        page = f"0, {page_bytes}, {PROTECTION}, {MAPPED_AS}, -1, 0"
        queue = f"((int (*)(long, long)) {address[ADD_PENDING_CALL]})"
        return "\n".join(
            (
                "settings set symbols.enable-external-lookup false",
                "settings set target.load-script-from-symbol-file false",
                *_read_before(target),
                f"process attach -p {target.pid}",
                f"{evaluate} long $page = {map_page}({page})",
                f"memory write --infile {LINE_FILE} --offset 0 `$page`",
                f"{evaluate} int $queued = {queue}({address[RUN_STRING]}, $page)",
                f"{evaluate} $queued",
                "detach",
                "",
            )
        )


def _read_before(target: Target) -> list[str]:
    """Commands that have it read the target's files, so that it need not while it holds it."""
    program = Path(target.executable)
    if not is_seen(target, program):
        return []
    paths = dict.fromkeys(mapping.path for mapping in target.mappings() if mapping.is_code)
    libraries = (Path(path) for path in paths if path != target.executable)
    return [
        f'target create --no-dependents "{program}"',
        *(f'target modules add "{path}"' for path in libraries if is_seen(target, path)),
    ]
