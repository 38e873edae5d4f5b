"""Whatever got through a reader must come out on paper, and bring nothing of its own with it."""

import json

from vramtop.core.alerts import alerts
from vramtop.core.fleet import Fleet, reduce
from vramtop.core.outlook import foresee
from vramtop.predict.live import signature
from vramtop.report import json as as_json
from vramtop.report import text as as_text


def assert_clean(text):
    """No escape sequences, no control characters: nothing that moves a cursor or writes a title."""
    dirty = {char for char in text if not char.isprintable()} - {"\n"}
    assert not dirty, f"{dirty} in {text[:500]!r}"


def assert_one_line(error):
    """As an error must be that is shown to the user."""
    assert_clean(str(error))
    assert 0 < len(str(error)) < 1000
    assert "\n" not in str(error)


def render(*snapshots):
    """Text and JSON of snapshots that follow one another; what the screen asks besides."""
    fleet = Fleet()
    for snapshot in snapshots:
        fleet = foresee(reduce(fleet, snapshot))
        for width in (1, 100):
            text = as_text.render(snapshot, width, alerts(fleet, 90.0))
            assert_clean(text)
            assert max(map(len, text.split("\n"))) <= width
        told = as_json.render(snapshot, alerts(fleet, 90.0))
        assert_clean(told)
        told.encode()
        json.loads(told, parse_constant=_is_no_json)
        for process in snapshot.processes:
            for device in process.probe.devices:
                signature(process, device.device)


def _is_no_json(word):
    raise AssertionError(f"{word} is not JSON")
