"""Where target and viewer meet: the same folders, or the target's own where it sees other ones."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..errors import AttachRefused, RendezvousRefused
from ..protocol import rendezvous
from .target import Target

PACKAGE = Path(__file__).resolve().parents[1]
_NEEDED = ("probe", "protocol", "inject/entry")
_NEEDED_FILES = ("__init__.py", "errors.py")


@dataclass(frozen=True, slots=True)
class Place:
    """The rendezvous directory and the package, for either side."""

    directory: Path
    """As we reach it."""
    directory_seen: str
    """As the target does; so the following."""
    package_seen: str


def directories(target: Target) -> list[Path]:
    """Where a probe of the target may listen, as we reach it."""
    return [*rendezvous.scan_directories(), _own_of(target)[0]]


def find(target: Target) -> Place:
    """Choose the place, and copy the probe where the target cannot see ours.

    Raises:
        AttachRefused: there is no directory that only its user can enter, or no room.
    """
    own = rendezvous.bind_directory().absolute()
    try:
        rendezvous.ensure_directory(own)
        directory, seen = own, os.fspath(own)
        if not is_seen(target, own):
            directory, seen = _own_of(target)
            rendezvous.ensure_directory(directory)
        package = os.fspath(PACKAGE)
        if not is_seen(target, PACKAGE / "errors.py"):
            package = f"{seen}/{_copy_package(directory)}"
    except RendezvousRefused as error:
        raise AttachRefused(str(error)) from None
    except OSError as error:
        raise AttachRefused(f"the probe cannot be copied to {directory}: {error}") from None
    return Place(directory, seen, package)


def is_seen(target: Target, path: Path) -> bool:
    """Whether the target sees the same file under the same path."""
    try:
        ours, theirs = path.stat(), Path(f"{target.proc}/root{path}").stat()
    except OSError:
        return False
    return os.path.samestat(ours, theirs)


def _own_of(target: Target) -> tuple[Path, str]:
    seen = f"/tmp/vramtop-{target.uid}"  # noqa: S108  checked: only its user can enter
    return Path(f"{target.proc}/root{seen}"), seen


def _copy_package(directory: Path) -> str:
    """Put what runs in the target into the directory, once for each version of it."""
    files = [PACKAGE / name for name in _NEEDED_FILES]
    files += [path for name in _NEEDED for path in sorted((PACKAGE / name).glob("*.py"))]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    name = f"package-{digest.hexdigest()[:12]}"
    if not (directory / name).is_dir():
        with tempfile.TemporaryDirectory(dir=directory, prefix=".package-") as new:
            for path in files:
                copy = Path(new, name, path.relative_to(PACKAGE))
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            try:
                Path(new, name).rename(directory / name)
            except OSError:
                if not (directory / name).is_dir():  # else another attach was quicker
                    raise
    return name
