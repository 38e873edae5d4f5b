"""Reads post-mortem files; whoever wrote them, nothing in them is believed unchecked."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NoReturn

from ..core.model import (
    Device,
    DeviceMemory,
    DeviceUse,
    Host,
    PostMortem,
    Probe,
    Process,
    Snapshot,
)
from ..errors import FileUnreadable, ProtocolError, RendezvousRefused
from ..protocol import rendezvous
from ..protocol.postmortem import MAX_FILE_BYTES, SCHEMA, SUFFIX, encode, write
from . import decode_failure, fields
from .figures import with_process_figures
from .told import Told

_MAX_MESSAGES = 1000
_MAX_DEVICES = 64
_MAX_COMMAND = 4096
_MAX_TRACEBACK = 64 << 10


def read(path: Path) -> PostMortem:
    """The post-mortem in a file.

    Raises:
        FileUnreadable: it cannot be opened, is none, or of another version.
    """
    return decode(content(path), str(path))


def stored() -> list[Path]:
    """The post-mortem files of this user's trainings on this machine, the newest first."""
    found = []
    for directory in rendezvous.scan_directories():
        try:
            rendezvous.check_directory(directory)
            found += [(path.lstat().st_mtime, path) for path in directory.glob(f"*{SUFFIX}")]
        except (RendezvousRefused, OSError):
            continue  # none there, or none that may be believed
    return [path for _, path in sorted(found, reverse=True)]


def decode(data: bytes, name: str) -> PostMortem:
    """The post-mortem in a file's bytes; ``name`` is for the message.

    Raises:
        FileUnreadable: they are none, or of another version.
    """
    try:
        found = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise FileUnreadable(f"{name} is no post-mortem: it is not JSON") from None
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise FileUnreadable(f"{name} is no post-mortem of this version ({SCHEMA})")
    try:
        return _post_mortem(found, name)
    except ProtocolError as error:
        raise FileUnreadable(f"{name} is damaged: {error}") from None


def add_prediction(path: Path, prediction: dict[str, Any]) -> None:
    """Write into a file what its process should have held, unless another viewer has.

    A file that is gone or cannot be written stays as it is: it tells of the failure without.
    """
    with suppress(FileUnreadable, OSError, ValueError):
        data = content(path)
        if decode(data, str(path)).prediction is None:
            contents = {**json.loads(data), "prediction": prediction}
            write(path, encode(contents), overwrite=True)


def content(path: Path) -> bytes:
    """The bytes of a file that may be one, at most ``MAX_FILE_BYTES``.

    Raises:
        FileUnreadable: it cannot be opened, or is too large.
    """
    try:
        # Not blocking: what is named might be a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise FileUnreadable(f"cannot open {path}: {why}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileUnreadable(f"{path} is not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise FileUnreadable(f"{path} is no post-mortem: it is larger than one may be")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise FileUnreadable(f"cannot read {path}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _post_mortem(found: dict[str, Any], name: str) -> PostMortem:
    told = Told()
    for item in fields.list_of(found, "messages", _MAX_MESSAGES):
        message = fields.object_of(item, "messages")
        if not isinstance(message.get("type"), str):
            raise ProtocolError("a message has no type")
        told.take(message)
    failure = decode_failure.failure(fields.object_of(found.get("failure"), "failure"))
    failure = replace(failure, file=name)
    written_at = fields.time_of({"at": found.get("written_at")})
    host, devices, uses = _machine(found.get("host"))
    probe = replace(
        told.probe,
        state="gone",
        failure=failure,
        ended="lost" if failure.kind == "lost" else told.probe.ended,
        history={device: tuple(points) for device, points in told.history.items()},
    )
    process = _process(found, probe, uses)
    prediction = found.get("prediction")
    traceback = found.get("traceback")
    return PostMortem(
        snapshot=Snapshot(
            taken_at=max(failure.at, probe.at or 0.0),
            host=host,
            devices=devices,
            processes=(process,),
        ),
        failure=failure,
        written_at=written_at,
        written_by=_writer(found),
        traceback=None if traceback is None else _lines(traceback),
        prediction=None if prediction is None else fields.object_of(prediction, "prediction"),
    )


def _process(found: dict[str, Any], probe: Probe, uses: tuple[DeviceUse, ...]) -> Process:
    rss_bytes = fields.integer(found, "rss_bytes")
    return Process(
        pid=fields.required(found, "pid"),
        started_at=fields.moment({"at": found.get("start_time")}),
        state="gone",
        user=fields.text(found, "user"),
        command=fields.text(found, "command", _MAX_COMMAND),
        devices=uses,
        host_rss_bytes=rss_bytes,
        probe=with_process_figures(probe, uses, rss_bytes),
    )


def _machine(value: Any) -> tuple[Host, tuple[Device, ...], tuple[DeviceUse, ...]]:
    if value is None:
        return Host("this machine", None, None), (), ()
    found = fields.object_of(value, "host")
    host = Host(
        hostname=fields.text(found, "hostname") or "?",
        ram_total_bytes=fields.integer(found, "ram_total_bytes"),
        ram_used_bytes=fields.integer(found, "ram_used_bytes"),
        cpu_percent=fields.number(found, "cpu_percent"),
        driver_version=fields.text(found, "driver_version"),
        cuda_driver_version=fields.text(found, "cuda_driver_version"),
    )
    rows = fields.tuple_of(found, "devices", _device, _MAX_DEVICES)
    return host, tuple(device for device, _ in rows), tuple(use for _, use in rows)


def _device(item: dict[str, Any]) -> tuple[Device, DeviceUse]:
    uuid = fields.text(item, "uuid") or "?"
    device = Device(
        index=fields.required(item, "index"),
        uuid=uuid,
        name=fields.text(item, "name") or "?",
        backend="host" if item.get("backend") == "host" else "nvml",
        memory=DeviceMemory(
            total_bytes=fields.integer(item, "total_bytes"),
            used_bytes=fields.integer(item, "used_bytes"),
            free_bytes=fields.integer(item, "free_bytes"),
            driver_reserved_bytes=fields.integer(item, "driver_reserved_bytes"),
        ),
    )
    kind = fields.text(item, "kind") or "C"
    return device, DeviceUse(uuid, fields.integer(item, "process_bytes"), kind)


def _writer(found: dict[str, Any]) -> Literal["probe", "viewer"]:
    return "viewer" if found.get("written_by") == "viewer" else "probe"


def _lines(value: Any) -> str:
    """Text of several lines, its end, without what would steer a terminal."""
    if not isinstance(value, str):
        raise ProtocolError("traceback is not a string")
    return "".join(c for c in value[-_MAX_TRACEBACK:] if c.isprintable() or c == "\n")
