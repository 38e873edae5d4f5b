"""What may stand in a post-mortem file."""

import contextlib
import copy
import io
import json
import tempfile
from argparse import Namespace
from pathlib import Path
from unittest.mock import patch

from hypothesis import strategies as st

from tests.fuzz import rendering, values
from tests.fuzz.harness import Fuzzer
from vramtop.cli import postmortem as command
from vramtop.errors import FileUnreadable, UsageError
from vramtop.predict import postmortem as predict
from vramtop.protocol.postmortem import SCHEMA
from vramtop.sources import postmortem

WHOLE = {
    "schema": SCHEMA,
    "written_at": 1795303670.0,
    "written_by": "probe",
    "pid": 4321,
    "start_time": 1795303651.4,
    "user": "me",
    "command": "python train.py",
    "failure": next(m for m in values.CORPUS if m["type"] == "oom"),
    "traceback": 'Traceback (most recent call last):\n  File "train.py", line 3\nMemoryError\n',
    "messages": values.CORPUS,
    "host": {
        "hostname": "here",
        "ram_total_bytes": 64 << 30,
        "ram_used_bytes": 9 << 30,
        "cpu_percent": 12.5,
        "driver_version": "550.54.14",
        "cuda_driver_version": "12.4",
        "devices": [
            {
                "index": 0,
                "uuid": "GPU-0",
                "name": "Fake GPU",
                "backend": "nvml",
                "total_bytes": 80 << 30,
                "used_bytes": 79 << 30,
                "free_bytes": 1 << 30,
                "driver_reserved_bytes": 1 << 20,
                "process_bytes": 70 << 30,
                "kind": "C",
            }
        ],
    },
    "prediction": {
        "moments": [{"name": "peak", "categories": {"parameter": {"predicted_bytes": 5 << 20}}}]
    },
    "rss_bytes": 3 << 30,
}


@contextlib.contextmanager
def _opened():
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(predict, "foreseen", _not_here),
    ):
        path = Path(folder, "1-2.postmortem.json")

        def check(data):
            path.write_bytes(data)
            try:
                read = postmortem.read(path)
            except FileUnreadable as error:
                rendering.assert_one_line(error)
                return
            rendering.render(read.snapshot)
            rendering.assert_clean(printed(path, as_json=False))
            told = printed(path, as_json=True)
            rendering.assert_clean(told)
            json.loads(told)

        yield check


def printed(path, *, as_json):
    """What the command prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        command.run(Namespace(file=path, json=as_json))
    return out.getvalue()


def _not_here(*_):
    raise UsageError("made-up trainings are not predicted")


def mutated(random):
    """The file with a message spoilt, something around them, or its bytes."""
    whole = copy.deepcopy(WHOLE)
    if random.random() < 0.5:
        at = random.randrange(len(whole["messages"]))
        whole["messages"][at] = values.spoilt(random, whole["messages"][at])
    else:
        rest = {**whole, "messages": whole["messages"][:1]}
        whole = {**values.spoilt(random, rest), "messages": whole["messages"]}
    data = values.line(whole)
    return values.mangled(random, data) if random.random() < 0.3 else data


FILES = st.binary(max_size=300) | st.lists(values.messages(), max_size=5).map(
    lambda messages: json.dumps({**WHOLE, "messages": messages}).encode()
)
FUZZER = Fuzzer("post-mortem files", _opened, mutated, FILES)
