"""The debugger lldb, where gdb is not installed."""

from __future__ import annotations

import re
from typing import Literal

from .debugger import LINE_FILE, SCRIPT_FILE, STOP_LIMIT_S
from .gdb import MAPPED_AS, PROTECTION
from .interpreter import ADD_PENDING_CALL, MAP_PAGE, RUN_STRING, Interpreter

_CALL_LIMIT_US = int(STOP_LIMIT_S / 3 * 1e6)


class Lldb:
    """Slower than gdb: it looks into every library while it holds the process."""

    name: Literal["gdb", "lldb"] = "lldb"
    stopping = re.compile(r"^\(lldb\) process attach ")
    running = re.compile(r"^Process \d+ detached")
    queued = re.compile(r"^\(int\) \$queued = (-?\d+)$")

    def command(self, pid: int) -> list[str]:  # noqa: ARG002
        """Without anybody's .lldbinit."""
        return ["lldb", "--no-lldbinit", "--batch", "-s", SCRIPT_FILE]

    def script(self, pid: int, interpreter: Interpreter, page_bytes: int) -> str:
        """A failed command ends the script, and lldb then detaches."""
        address = interpreter.addresses
        evaluate = f"expression -l c -u true -t {_CALL_LIMIT_US} --"
        map_page = f"((long (*)(long, long, long, long, long, long)) {address[MAP_PAGE]})"
        page = f"0, {page_bytes}, {PROTECTION}, {MAPPED_AS}, -1, 0"
        queue = f"((int (*)(long, long)) {address[ADD_PENDING_CALL]})"
        return "\n".join(
            (
                "settings set target.preload-symbols false",
                "settings set symbols.enable-external-lookup false",
                "settings set target.load-script-from-symbol-file false",
                f"process attach -p {pid}",
                f"{evaluate} long $page = {map_page}({page})",
                f"memory write --infile {LINE_FILE} --offset 0 `$page`",
                f"{evaluate} int $queued = {queue}({address[RUN_STRING]}, $page)",
                f"{evaluate} $queued",
                "detach",
                "",
            )
        )
