"""The tracer's process: ``python -m vramtop.trace``, a request on stdin, answers on stdout.

One JSON object a line. The request is ``{"workload": …, "batches": […]}``; the answers are
``{"progress": text, "done": 0…1}`` and last ``{"traces": …}`` or ``{"error": text}``.
``python -m vramtop.trace config NAME`` prints the configuration that AutoConfig finds.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
from typing import Any

from ..errors import VramtopError


def main() -> int:
    """Answer one request."""
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
            return 0
        answer({"traces": _trace(json.loads(sys.stdin.readline()), answer)})
    except VramtopError as error:
        # It may quote an error of the user's own model, of any length.
        answer({"error": (str(error).splitlines() or [type(error).__name__])[0]})
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _trace(request: dict[str, Any], answer: Any) -> list[dict[str, Any]]:
    from ..estimator.workload import from_json

    answer({"progress": "importing torch and transformers", "done": 0.0})
    from .run import trace_batches

    def progress(text: str, done: float) -> None:
        answer({"progress": text, "done": done})

    return trace_batches(from_json(request["workload"]), request["batches"], progress)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
