"""What may stand in config.toml and state.json."""

import contextlib
import json
import tempfile
from pathlib import Path
from unittest.mock import patch

from hypothesis import strategies as st

from tests.fuzz import values
from tests.fuzz.harness import Fuzzer
from vramtop import settings
from vramtop.errors import UsageError
from vramtop.sources.fake import FakeSource
from vramtop.tui import app

_CONFIG = b"""backend = "auto"
interval_s = 1.0
readonly = false
theme = "dark"
alert_at_percent = 95
on_alert = 'notify-send "$VRAMTOP_ALERT_TEXT"'
"""
_STATE = {"theme": "vramtop-dark", "pane": "devices", "sort_key": "memory", "descending": True}
_VALUES = (
    *(b"nan", b"-inf", b"1e999", b"9" * 5000, b"0x7fffffffffffffffffff", b"true", b"1979-05-27"),
    *(b"[" * 3000, b"{a=" * 3000, b'"\\u0000"', b'"\xff"', b'"""', b"''", b"[[1]]", b"{}"),
)


@contextlib.contextmanager
def opened_config():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.toml")

        def check(data):
            path.write_bytes(data)
            try:
                config = settings.load_config(path)
            except UsageError:
                return
            assert config.backend in settings.BACKENDS
            assert 0.1 <= config.interval_s <= 60.0
            assert config.theme in {None, *settings.THEMES}
            assert config.alert_at_percent is None or 1 <= config.alert_at_percent <= 100
            assert isinstance(config.readonly, bool)

        yield check


def mutated_config(random):
    """A line's value replaced, or bytes changed anywhere."""
    lines = _CONFIG.splitlines()
    if random.random() < 0.5:
        at = random.randrange(len(lines))
        lines[at] = lines[at].split(b"=")[0] + b"= " + random.choice(_VALUES)
        return b"\n".join(lines)
    return values.mangled(random, _CONFIG)


@contextlib.contextmanager
def opened_state():
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(settings, "state_path", lambda: Path(folder, "state.json")),
        patch.object(app.VramtopApp, "run", lambda _: None),
    ):

        def check(data):
            settings.state_path().write_bytes(data)
            app.run_app(FakeSource())
            kept = settings.load_state()  # what is written at the end can be read
            assert {"theme", "pane", "sort_key"} <= kept.keys()

        yield check


def mutated_state(random):
    """What is remembered, of other types and with other bytes."""
    data = values.line(values.spoilt(random, _STATE))
    return values.mangled(random, data) if random.random() < 0.5 else data


CONFIG = Fuzzer(
    "config.toml",
    opened_config,
    mutated_config,
    st.binary(max_size=300) | st.text(st.characters(codec="utf-8")).map(str.encode),
)
STATE = Fuzzer(
    "state.json",
    opened_state,
    mutated_state,
    st.binary(max_size=300)
    | st.dictionaries(st.sampled_from(sorted(_STATE)), values.VALUES).map(
        lambda state: json.dumps(state).encode()
    ),
)
