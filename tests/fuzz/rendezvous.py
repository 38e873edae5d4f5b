"""A rendezvous of a fuzzer's own: the machine's probes are not its business."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch


@contextlib.contextmanager
def runtime_directory():
    """The only rendezvous there is; short, because a socket's path must fit into 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="vt-", dir="/tmp"))
    with patch.dict(os.environ, {"VRAMTOP_RUNTIME_DIR": str(path)}):
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
