"""The models and GPUs that vramtop knows by name; read from package data when first asked."""

from __future__ import annotations

import csv
import difflib
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from ..errors import UsageError
from .workload import Device, Model

_DATA: Final = Path(__file__).parent / "data"
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the catalogue and what is known of it."""

    model: Model
    aliases: tuple[str, ...]
    """Short names first, then other hub ids of the same shape."""
    dtype: str
    """In which the hub's file is stored, as torch names it."""
    built_parameters: int
    """As transformers builds them, tied weights once."""
    published_parameters: int | None
    """Of the hub's file; None where only a rounded figure is published."""


@cache
def entries() -> tuple[Entry, ...]:
    """Every model with its figures, in the catalogue's order."""
    return tuple(
        _entry(json.loads(line)) for line in (_DATA / "models.jsonl").read_text().splitlines()
    )


def models() -> tuple[Model, ...]:
    """Every model of the catalogue; ``parameters`` are those that transformers builds."""
    return tuple(entry.model for entry in entries())


@cache
def gpus() -> tuple[Device, ...]:
    """Every GPU, with the memory that NVML reports under current drivers."""
    with (_DATA / "gpus.csv").open(newline="") as file:
        return tuple(_device(row) for row in csv.DictReader(file))


def find_model(name: str) -> Model | None:
    """The model with this name: short name, hub id, or a hub id's last part, in any case."""
    return _models_by_name().get(_plain(name))


def find_gpu(name: str) -> Device:
    """The GPU that a name means: "4090", "a100-80gb", "H100", "t4", "rtx 3090".

    Each word of the name must be one of the GPU's (a memory size may be the nominal one, within
    10 % of NVML's). Where several match, the one of exactly these words, else the first of
    the data's order, which puts the commonest first: of A100 and H100 the SXM card of 80 GB, of
    V100 the SXM2 of 16 GB, a desktop card before its laptop namesake and its Ti.

    Raises:
        UsageError: none matches; the closest names are given.
    """
    wanted = _words(name)
    matches = [device for device in gpus() if wanted and _matches(wanted, device)]
    if not matches:
        raise UsageError(f"no GPU {name!r} in the catalogue; {_or_close(name, _gpu_names())}")
    for device in matches:
        if set(_words(device.name)) == set(wanted):
            return device
    return matches[0]


def short_name(model: Model) -> str:
    """What a model is called in a few letters; of others than the catalogue's the last part."""
    return _short_names().get(model.name) or model.name.rpartition("/")[2]


def suggest(name: str) -> tuple[str, ...]:
    """Up to five names of the catalogue's models that are close to this one, best first."""
    plain = _plain(name)
    known = _models_by_name()
    close = difflib.get_close_matches(plain, known, n=20, cutoff=0.5)
    close += [key for key in known if plain and (plain in key or key in plain)]
    best: dict[str, str] = {}
    for key in close:
        model = known[key]
        best.setdefault(model.name, _short_names()[model.name])
    return tuple(best.values())[:5]


def _entry(value: dict[str, object]) -> Entry:
    built, published = value["parameters"], value["published"]
    assert isinstance(built, int)
    config, aliases = value["config"], value["aliases"]
    assert isinstance(config, dict)
    assert isinstance(aliases, list)
    return Entry(
        Model(str(value["id"]), config, str(value["auto_class"]), parameters=built),
        tuple(aliases),
        str(value["dtype"]),
        built,
        published if isinstance(published, int) else None,
    )


def _device(row: dict[str, str]) -> Device:
    major, minor = row["compute_capability"].split(".")
    total_bytes = int(row["memory_total_mib"]) * _MIB
    return Device(row["name"], total_bytes, (int(major), int(minor)))


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", "-", name.strip().lower())


@cache
def _models_by_name() -> dict[str, Model]:
    named = {
        _plain(name): entry.model
        for entry in entries()
        for name in (entry.model.name, *entry.aliases)
    }
    for name, model in tuple(named.items()):
        named.setdefault(name.rpartition("/")[2], model)
    return named


@cache
def _short_names() -> dict[str, str]:
    return {entry.model.name: entry.aliases[0] for entry in entries()}


_MAKER_WORDS: Final = {"nvidia", "geforce", "tesla", "gpu", "generation"}


@cache
def _words(name: str) -> tuple[str, ...]:
    spaced = re.sub(r"\b(rtx|gtx)(?=\d)", r"\1 ", name.lower())
    spaced = re.sub(r"(?<=\d{4})(ti|super)\b", r" \1", spaced)
    spaced = re.sub(r"(\d+)\s*(?:gib|gb|g)\b", r" \1gb ", spaced)
    return tuple(word for word in re.findall(r"[a-z0-9]+", spaced) if word not in _MAKER_WORDS)


def _matches(wanted: tuple[str, ...], device: Device) -> bool:
    have = _words(device.name)
    return all(
        word in have
        or (word.isalpha() and any(other.startswith(word) for other in have))
        or _is_size_of(word, device)
        for word in wanted
    )


def _is_size_of(word: str, device: Device) -> bool:
    size = re.fullmatch(r"(\d+)gb", word)
    if size is None or any(re.fullmatch(r"\d+gb", other) for other in _words(device.name)):
        return False
    return abs(int(size[1]) - device.total_bytes / 2**30) <= 0.1 * int(size[1])


def _gpu_names() -> dict[str, str]:
    return {" ".join(_words(device.name)): device.name for device in gpus()}


def _or_close(name: str, known: dict[str, str]) -> str:
    close = difflib.get_close_matches(" ".join(_words(name)), known, n=3, cutoff=0.4)
    if close:
        return "close: " + ", ".join(known[key] for key in close) + "; or give --vram SIZE"
    return "name one as nvidia-smi prints it, or give --vram SIZE"
