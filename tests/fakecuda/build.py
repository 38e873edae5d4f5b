"""Compiles the double's device for the torch of this Python, once a source and torch."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("device.cpp")
COMPILER = "g++"


def why_not() -> str | None:
    """Why there can be no double here, None if there can."""
    import torch

    if shutil.which(COMPILER) is None:
        return f"no {COMPILER} here"
    if torch.version.cuda is not None or torch.version.hip is not None:
        return "torch is no CPU build: it has a device of this kind itself"
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13):
        return "the double's device is written for torch 2.13 and later"
    return None


def compiled() -> Path:
    """The path of the library (10 s where it is not there yet); does not import torch.

    Loaded before torch, it takes part in what torch finds out once: which accelerator there is.
    """
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    text = SOURCE.read_bytes() + f"{root}\n".encode() + (root / "version.py").read_bytes()
    folder = Path(tempfile.gettempdir()) / f"vramtop-fakecuda-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{hashlib.sha256(text).hexdigest()[:16]}.so"
    if not library.exists():
        options = ["-std=c++20", "-O0", "-shared", "-fPIC", "-Wall"]
        for headers in ("include", "include/torch/csrc/api/include"):
            options += ["-isystem", str(root / headers)]
        libraries = root / "lib"
        link = [f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-ltorch", "-ltorch_cpu", "-lc10"]
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            built = Path(scratch, "device.so")
            subprocess.run([COMPILER, *options, SOURCE, "-o", built, *link], check=True)
            built.replace(library)
    return library
