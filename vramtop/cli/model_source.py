"""What MODEL means: a catalogue name, a file, a Hugging Face id, or a function of the user's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import UsageError
from ..estimator import catalog
from ..estimator.workload import Model
from .progress import ProgressLine

_ASK_TIMEOUT_S: Final = 15
"""For AutoConfig to import, and to reach a hub that answers."""
_ENTRY: Final = re.compile(r"(?P<place>.+\.py|[A-Za-z_][\w.]*):(?P<name>[A-Za-z_]\w*)")
_CODE: Final = re.compile(r"(?P<place>.+\.py)(:.*)?", re.DOTALL)
_HUB_ID: Final = re.compile(r"[\w.-]+(/[\w.-]+)?")
_MAX_CONFIG_BYTES: Final = 16 << 20
_TRUE: Final = ("1", "ON", "YES", "TRUE")
"""As huggingface_hub reads its variables (constants.py, ENV_VARS_TRUE_VALUES)."""
_WITHOUT_HUB: Final = "; a config.json or its folder needs no hub, HF_HUB_OFFLINE=1 asks none"
_ABOUT_THE_FILE: Final = (
    "_name_or_path",
    "_attn_implementation_autoset",
    "architectures",
    "auto_map",
    "dtype",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
)
"""What a config.json says about the checkpoint and not about the model's shape."""
_HEADS: Final = (
    ("ForMaskedLM", "AutoModelForMaskedLM"),
    ("ForConditionalGeneration", "AutoModelForSeq2SeqLM"),
    ("ForSequenceClassification", "AutoModelForSequenceClassification"),
    ("ForImageClassification", "AutoModelForImageClassification"),
)
"""Endings of class names, and the Auto class that makes them; else a causal language model."""
_SEQ2SEQ: Final = ("t5", "mt5", "umt5", "bart", "mbart", "pegasus", "longt5", "switch_transformers")


def find_model(text: str) -> Model:
    """The model that the user names.

    The catalogue comes before any file of a hub, as it needs none and its counts are checked.

    Raises:
        UsageError: there is no such model, or its configuration cannot be read.
    """
    if not text.strip():
        raise UsageError("MODEL is empty; write a name as llama-2-7b, or a file")
    path = Path(text).expanduser()
    if match := _ENTRY.fullmatch(text):
        place = match["place"]
        if place.endswith(".py") and not Path(place).expanduser().is_file():
            raise UsageError(f"there is no file {place}")
        return Model(text, entry=text)
    if match := _CODE.fullmatch(text):
        place = match["place"]
        if not Path(place).expanduser().is_file():
            raise UsageError(f"there is no file {place}")
        raise UsageError(
            f"{place} is code: write {place}:FUNCTION with the name of its function that returns "
            "the model"
        )
    if path.is_dir():
        return read_config(path / "config.json", path.resolve().name)
    if path.is_file() or text.endswith(".json"):
        return read_config(path, path.resolve().parent.name or text)
    if (known := catalog.find_model(text)) is not None:
        return known
    if not _HUB_ID.fullmatch(text):
        raise UsageError(f"there is no file or folder {text}{_close(text)}")
    if (cached := _cached_config(text)) is not None:
        return read_config(cached, text)
    if "/" not in text and (near := _close(text)):
        # A slip of the pen: not worth the seconds that a hub out of reach takes.
        raise UsageError(f"no model {text!r} in the catalogue{near}")
    return _ask_transformers(text)


def read_config(path: Path, name: str) -> Model:
    """A model from its config.json.

    Raises:
        UsageError: the file is missing, not JSON, or no configuration.
    """
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise UsageError(f"{path} is too large for a configuration")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"{path} is no JSON and so no configuration: {first}") from None
    return model_from(value, name, str(path))


def model_from(value: Any, name: str, place: str) -> Model:
    """A model from the JSON value of its configuration; ``place`` is where that came from.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(value, dict):
        raise UsageError(f"{place} is no configuration: it must be a JSON object with a model_type")
    text_part = value.get("text_config")
    if isinstance(text_part, dict) and isinstance(text_part.get("model_type"), str):
        # Of a model of images and text the language model; with its vision tower left out.
        name, value = f"{name} (its text model)", {**text_part, "architectures": None}
    if not isinstance(value.get("model_type"), str):
        raise UsageError(f'{place} is no configuration: it has no model_type, as "llama"')
    return Model(
        name,
        {key: given for key, given in value.items() if key not in _ABOUT_THE_FILE},
        auto_class_of(value),
    )


def auto_class_of(config: Mapping[str, Any]) -> str:
    """The Auto class that makes the model that the configuration is of."""
    architectures = config.get("architectures")
    names = architectures if isinstance(architectures, list) else []
    for name in names:
        for ending, auto_class in _HEADS:
            if str(name).endswith(ending):
                return auto_class
    if config.get("model_type") in _SEQ2SEQ:
        return "AutoModelForSeq2SeqLM"
    return "AutoModelForCausalLM"


def _cached_config(name: str) -> Path | None:
    """config.json in the hub's cache on this machine (huggingface_hub's layout)."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    snapshots = hub / f"models--{name.replace('/', '--')}" / "snapshots"
    try:
        main = (snapshots.parent / "refs" / "main").read_text().strip()
    except OSError:
        main = ""
    if main and (snapshots / main / "config.json").is_file():
        return snapshots / main / "config.json"
    try:
        found = sorted(snapshots.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    except OSError:
        return None
    return found[-1] if found else None


def _ask_transformers(name: str) -> Model:
    from ..trace import client

    unknown = f"no model {name!r} in the catalogue"
    if (reason := client.why_not()) is not None:
        raise UsageError(f"{unknown}{_close(name)}; {reason}")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE:
        raise UsageError(f"{unknown} or the cache, and HF_HUB_OFFLINE is set{_close(name)}")
    shown = ProgressLine()
    try:
        shown(f"asking {_hub()} for {name}: {_ASK_TIMEOUT_S:g} s at most")
        done = subprocess.run(
            [sys.executable, "-m", "vramtop.trace", "config", name],
            capture_output=True,
            text=True,
            timeout=_ASK_TIMEOUT_S,
            check=False,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_ETAG_TIMEOUT": "5"},
        )
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"{unknown}, and no answer from {_hub()}{_close(name) or _WITHOUT_HUB}"
        ) from None
    finally:
        shown.clear()
    try:
        value = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        value = {}
    if done.returncode or not isinstance(value, dict) or "error" in value or not value:
        raise UsageError(f"{unknown}, the cache or at {_hub()}{_close(name) or _WITHOUT_HUB}")
    return model_from(value, name, name)


def _hub() -> str:
    """Who is asked: huggingface_hub's endpoint, without its scheme."""
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    return endpoint.partition("://")[2].rstrip("/") or endpoint


def _close(name: str) -> str:
    near = catalog.suggest(name)[:3]
    return f"; did you mean {' or '.join(near)}?" if near else ""
