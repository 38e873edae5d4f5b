"""Which Python a process runs, and where in its memory the functions lie that it is reached by."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..errors import AttachRefused
from .elf import ElfFile, Symbol
from .permission import check_ptrace
from .target import Mapping, Target

ADD_PENDING_CALL = "Py_AddPendingCall"
RUN_STRING = "PyRun_SimpleString"
MAP_PAGE = "mmap"
FUNCTIONS = (ADD_PENDING_CALL, RUN_STRING, MAP_PAGE)
_VERSION = "Py_Version"
_MINIMUM = (3, 9)
REMOTE_EXEC = (3, 14)
"""From this version on a Python takes code by itself; no function of it need be found."""
_INSTEAD = "start it with: vramtop run -- python …"
_NAMED = re.compile(r"^(?:lib)?python-?(\d)\.?(\d+)?")
_WORTH_READING = re.compile(r"^(?:libpython|libc[.-]|ld-musl|libc\.musl)")
_COMPARED_BYTES = 64
_DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python in a process."""

    version: tuple[int, int]
    addresses: dict[str, int] = field(default_factory=dict)
    """Of ``FUNCTIONS``, where they are in the process's memory."""

    @property
    def name(self) -> str:
        """For messages: Python 3.11."""
        return f"Python {self.version[0]}.{self.version[1]}"


def find(target: Target) -> Interpreter:
    """Look into the files that the process has mapped; it is not touched.

    Raises:
        AttachRefused: it is not a Python ≥ 3.9, what is needed is not in its symbol tables, or
            the kernel does not permit to compare them with its memory.
    """
    try:
        executable = target.executable
        mappings = list(target.mappings())
    except OSError:
        raise AttachRefused(
            f"process {target.pid} ({target.name()}) may not be looked at: it is a kernel thread "
            f"or has made itself private (prctl PR_SET_DUMPABLE); {_INSTEAD}"
        ) from None
    addresses: dict[str, int] = {}
    version: tuple[int, int] | None = None
    is_python = False
    for mapping in _code_of_each(mappings, executable):
        try:
            file = ElfFile(_readable(target, mapping, executable))
        except (OSError, ValueError, struct.error):  # it may be any file
            continue
        found = file.symbols({*FUNCTIONS, _VERSION} - addresses.keys())
        is_python = is_python or _says_python(mapping.path)
        if ADD_PENDING_CALL in found:
            is_python = True
            version = _version(file, found, mapping.path)
        bias = file.bias(mapping.start, mapping.file_offset)
        if bias is None:
            continue
        for name in FUNCTIONS:
            if name in found and _is_in_memory(target, file, found[name], bias):
                addresses[name] = found[name].address + bias
    version = version or _version_by_name(executable, mappings)
    return _judge(target, is_python or version is not None, version, addresses)


def _judge(
    target: Target,
    is_python: bool,
    version: tuple[int, int] | None,
    addresses: dict[str, int],
) -> Interpreter:
    who = f"process {target.pid} ({target.name()})"
    if not is_python:
        raise AttachRefused(f"{who} is not a Python process; nothing to attach to")
    if version is not None and version < _MINIMUM:
        raise AttachRefused(
            f"{who} runs Python {version[0]}.{version[1]}; the probe needs 3.9 or newer"
        )
    missing = [name for name in FUNCTIONS if name not in addresses]
    if missing:
        check_ptrace(target)  # where its memory may not be read, none is found to be there
    if version is None or (missing and version < REMOTE_EXEC):
        raise AttachRefused(
            f"{who} is a Python whose symbols are missing ({', '.join(missing) or 'version'}): a "
            f"stripped static build, or its files were replaced since it started; {_INSTEAD}"
        )
    return Interpreter(version, addresses)


def _code_of_each(mappings: list[Mapping], executable: str) -> list[Mapping]:
    """The code of each file that may hold the symbols, libpython before the others."""
    # Only code: a process may have mapped the same file once more, to read it.
    firsts: dict[str, Mapping] = {}
    for mapping in (mapping for mapping in mappings if mapping.is_code):
        path = mapping.path.removesuffix(_DELETED)
        if path == executable or _WORTH_READING.match(PurePosixPath(path).name):
            firsts.setdefault(mapping.path, mapping)
    return sorted(firsts.values(), key=lambda m: "libpython" not in m.path)


def _readable(target: Target, mapping: Mapping, executable: str) -> Path:
    """Where we can open the very file that is mapped, in whichever mount namespace it lies."""
    if mapping.path.removesuffix(_DELETED) == executable:
        return target.proc / "exe"
    if mapping.path.endswith(_DELETED):
        return target.proc / "map_files" / f"{mapping.start:x}-{mapping.end:x}"
    return Path(f"{target.proc}/root{mapping.path}")


def _is_in_memory(target: Target, file: ElfFile, symbol: Symbol, bias: int) -> bool:
    """Whether the function's code is where the file says: the file may be another one by now."""
    try:
        with (target.proc / "mem").open("rb", buffering=0) as memory:
            memory.seek(symbol.address + bias)
            there = memory.read(_COMPARED_BYTES)
    except (OSError, ValueError, OverflowError):
        return False
    return there == file.read(symbol.file_offset, _COMPARED_BYTES)


def _version(file: ElfFile, found: dict[str, Symbol], path: str) -> tuple[int, int] | None:
    """By the constant that Python ≥ 3.11 exports, else by the file's name or its own words."""
    if _VERSION in found:  # PY_VERSION_HEX, Include/patchlevel.h
        (number,) = struct.unpack("<Q", file.read(found[_VERSION].file_offset, 8))
        return (number >> 24) & 0xFF, (number >> 16) & 0xFF
    named = _NAMED.match(PurePosixPath(path).name)
    if named and named[2]:
        return int(named[1]), int(named[2])
    return None


def _version_by_name(executable: str, mappings: list[Mapping]) -> tuple[int, int] | None:
    """By the folder of the standard library's extension modules."""
    for path in (executable, *(mapping.path for mapping in mappings)):
        found = re.search(r"/python(\d)\.(\d+)(?:/lib-dynload/|$)", path)
        if found:
            return int(found[1]), int(found[2])
    return None


def _says_python(path: str) -> bool:
    return _NAMED.match(PurePosixPath(path).name) is not None
