"""The tracer's process: ``python -m vramtop.trace``, requests on stdin, answers on stdout.

One JSON object a line. A request is ``{"workload": …, "batches": […]}``; the answers are
``{"progress": text, "done": 0…1}`` and last ``{"traces": …}`` or ``{"error": text}``.
``python -m vramtop.trace config NAME`` prints the configuration that AutoConfig finds.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from ..errors import VramtopError


def main() -> int:
    """Answer requests until there are no more."""
    # A third of the time to import torch and transformers would go into collections; and what is
    # traced must not depend on when one happens to run.
    gc.disable()
    # Whatever libraries print must not get between the lines of the answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value, separators=(",", ":")) + "\n")
        answers.flush()

    try:
        if sys.argv[1:2] == ["config"]:
            from .hub import find_config

            answers.write(json.dumps(find_config(sys.argv[2])) + "\n")
            answers.flush()
        else:
            while request := sys.stdin.readline():
                answer(_answer(json.loads(request), answer))
                gc.collect()
    except VramtopError as error:
        answer({"error": str(error)})
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _answer(request: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    from ..estimator.workload import from_json

    if "torch" not in sys.modules:
        answer({"progress": "importing torch and transformers", "done": 0.0})
    from .run import trace_batches

    def progress(text: str, done: float) -> None:
        answer({"progress": text, "done": done})

    try:
        workload = from_json(request["workload"])
        return {"traces": trace_batches(workload, request["batches"], progress)}
    except VramtopError as error:
        # It may quote an error of the user's own model, of any length.
        return {"error": (str(error).splitlines() or [type(error).__name__])[0]}


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
