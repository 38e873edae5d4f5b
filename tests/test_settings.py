import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vramtop import settings
from vramtop.errors import UsageError


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def write(home, text):
    path = home / "vramtop" / "config.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def test_without_a_file_the_defaults_hold(home):
    assert settings.load_config() == settings.Config()


def test_what_the_file_says_is_taken(home):
    write(home, 'backend = "host"\ninterval_s = 2\nreadonly = true')
    config = settings.load_config()
    assert (config.backend, config.interval_s, config.readonly) == ("host", 2, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("backend = 'tpu'", "backend must be one of auto, nvml, host"),
        ("interval_s = 0", "interval_s must be 0.1 to 60"),
        ("interval_s = 'fast'", "interval_s must be 0.1 to 60"),
        ("readonly = 1", "readonly must be true or false"),
        ("speed = 1", "unknown speed; known are alert_at_percent"),
        ("theme = 'nope'", "theme must be one of dark, light"),
        ("alert_at_percent = 0", "alert_at_percent must be 1 to 100"),
        ("alert_at_percent = true", "alert_at_percent must be 1 to 100"),
        ("on_alert = 1", "on_alert must be a command as text"),
        ("= =", "cannot be read"),
    ],
)
def test_a_wrong_file_is_one_line_that_says_what_is_allowed(home, text, said):
    write(home, text)
    with pytest.raises(UsageError) as caught:
        settings.load_config()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_state_comes_back(home):
    settings.save_state({"theme": "x"})
    assert settings.load_state() == {"theme": "x"}
    assert [p.name for p in (home / "vramtop").iterdir()] == ["state.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_broken_state_is_no_state(home, content):
    (home / "vramtop").mkdir()
    (home / "vramtop" / "state.json").write_bytes(content)
    assert settings.load_state() == {}


def test_a_state_that_cannot_be_saved_harms_nothing(home):
    (home / "vramtop").write_text("a file where the folder should be")
    settings.save_state({"a": 1})
    assert json.dumps(settings.load_state()) == "{}"


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_config_in_another_users_closed_folder_is_none(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    asked = (
        f"import os, sys; sys.path.insert(0, {str(Path.cwd())!r}); from vramtop import settings; "
        "from pathlib import Path; os.setuid(65534); "
        f"print(settings.load_config(Path({str(closed / 'config.toml')!r})).backend)"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("auto\n", "")
