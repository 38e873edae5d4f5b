"""The stand-in NVIDIA driver for tests and benchmarks: compile it, write its scenario.

A scenario is a dict; every key but ``gpus`` has a default::

    {"driver": "550.54.14", "cuda": 12040,
     "errors": {"nvmlDeviceGetTemperature": "NOT_SUPPORTED",  on every GPU (and without one)
                "nvmlInit": "DRIVER_NOT_LOADED",
                "*": "TIMEOUT"},                              every call, nvmlInit too
     "delays_us": {"nvmlDeviceGetName": 5000},
     "process_bytes": 24,     size of an entry in the ``_v3`` lists: 32 as driver 535.43 has it
     "epoch": 0,              another value: the driver was reloaded; all that was opened before
                              is UNINITIALIZED until nvmlInit
     "frozen_count": False,   True: a GPU added or removed shows after nvmlInit only
     "gpus": [{"name", "uuid", "total_bytes", "reserved_bytes", "used_bytes",
               "utilization_percent", "memory_utilization_percent", "temperature_c", "power_w",
               "power_limit_w", "sm_clock_mhz", "memory_clock_mhz",
               "errors": {"*": "GPU_IS_LOST"}, "delays_us": {},   also of its MIG instances
               "own_errors": {},                                   not of its MIG instances
               "processes": [{"pid": 1, "used_bytes": 2 or None (N/A), "list": "C" | "G" | "M",
                              "gi": 1, "ci": 0}],
               "generation": 0,         another value: handles from before are invalid
               "mig_slots": 7,          how many instances the GPU can have; 0: no MIG
               "mig": {0: {"name", "uuid", "gi", "ci", "total_bytes", ..., "errors"}, 2: {...}}}]}

``mig`` present (even empty) means that MIG is switched on. Errors are the names of NVML's return
codes without ``NVML_ERROR_``, under the C symbol's name (``nvmlDeviceGetMemoryInfo_v2``).
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCES = sorted(FOLDER.glob("*.c"))
HEADERS = sorted(FOLDER.glob("*.h"))
SONAME = "libnvidia-ml.so.1"
NO_INSTANCE = 0xFFFFFFFF
CODES = {
    "UNINITIALIZED": 1,
    "INVALID_ARGUMENT": 2,
    "NOT_SUPPORTED": 3,
    "NO_PERMISSION": 4,
    "NOT_FOUND": 6,
    "INSUFFICIENT_SIZE": 7,
    "DRIVER_NOT_LOADED": 9,
    "TIMEOUT": 10,
    "LIBRARY_NOT_FOUND": 12,
    "FUNCTION_NOT_FOUND": 13,
    "GPU_IS_LOST": 15,
    "RESET_REQUIRED": 16,
    "LIB_RM_VERSION_MISMATCH": 18,
    "UNKNOWN": 999,
}
V3_LISTS = tuple(
    f"nvmlDeviceGet{kind}RunningProcesses_v3" for kind in ("Compute", "Graphics", "MPSCompute")
)
V2_LISTS = tuple(name.replace("_v3", "_v2") for name in V3_LISTS)
GIB = 1 << 30


class Standin:
    """A compiled stand-in and its scenario file in ``folder``; also a context manager.

    ``hidden``: symbols that the library shall not have, as an old driver.
    """

    def __init__(self, folder, scenario=None, hidden=()):
        self.folder = Path(tempfile.mkdtemp(prefix="nvml-standin-", dir=folder))
        self._scenario_file = self.folder / "scenario"
        shutil.copy(compiled(hidden), self.folder / SONAME)
        self.write(scenario or {"gpus": []})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)

    @property
    def env(self):
        """Variables that make a subprocess load this library as the driver's."""
        return {
            "LD_LIBRARY_PATH": str(self.folder),
            "NVML_STANDIN_SCENARIO": str(self._scenario_file),
        }

    def write(self, scenario):
        """Change the hardware now; a call that is under way still sees what was."""
        new = self._scenario_file.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in _lines(scenario)))
        new.replace(self._scenario_file)


def compiled(hidden=()):
    """The path of the library without the ``hidden`` symbols, compiled once a source and set."""
    text = (
        b"".join(source.read_bytes() for source in SOURCES + HEADERS)
        + repr(sorted(hidden)).encode()
    )
    key = hashlib.sha256(text).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"vramtop-nvml-standin-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{key}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            script = Path(scratch, "symbols.map")
            script.write_text("{ global: nvml*; local: *; };\n")
            built = Path(scratch, SONAME)
            options = ["-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-pthread"]
            options += [f"-Wl,-soname,{SONAME}", f"-Wl,--version-script={script}"]
            options += [f"-D{name}=hidden_{name}" for name in hidden]
            subprocess.run(["cc", *options, "-o", built, *SOURCES], check=True)
            built.replace(library)
    return library


def _lines(scenario):
    yield f"driver\t{scenario.get('driver', '550.54.14')}"
    yield f"cuda\t{scenario.get('cuda', 12040)}"
    yield f"epoch\t{scenario.get('epoch', 0)}"
    yield f"frozen_count\t{int(scenario.get('frozen_count', False))}"
    yield f"process_bytes\t{scenario.get('process_bytes', 24)}"
    yield from _rules(scenario, "*")
    for index, gpu in enumerate(scenario["gpus"]):
        yield from _rules(gpu, index)
        yield from _errors(gpu.get("own_errors", {}), f"{index}.-1")
        yield from _gpu(index, gpu)


def _rules(owner, gpu):
    yield from _errors(owner.get("errors", {}), gpu)
    for call, microseconds in owner.get("delays_us", {}).items():
        yield f"delay\t{call}\t{gpu}\t{microseconds}"


def _errors(errors, where):
    for call, code in errors.items():
        yield f"error\t{call}\t{where}\t{CODES[code]}"


def _gpu(index, gpu):
    fields = [
        *_unit(gpu, f"NVIDIA Stand-in {index}", f"GPU-{index:08x}-0000-0000-0000-000000000000"),
        gpu.get("utilization_percent", 0),
        gpu.get("memory_utilization_percent", 0),
        gpu.get("temperature_c", 40),
        round(gpu.get("power_w", 100) * 1000),
        round(gpu.get("power_limit_w", 700) * 1000),
        gpu.get("sm_clock_mhz", 1980),
        gpu.get("memory_clock_mhz", 2619),
        int("mig" in gpu),
        gpu.get("mig_slots", 7 if "mig" in gpu else 0),
        gpu.get("generation", 0),
    ]
    yield "\t".join(map(str, ["gpu", *fields]))
    for slot, instance in gpu.get("mig", {}).items():
        yield from _errors(instance.get("errors", {}), f"{index}.{slot}")
        unit = _unit(instance, "MIG 1g.10gb", f"MIG-{index:08x}-0000-0000-0000-{slot:012x}")
        yield "\t".join(map(str, ["mig", slot, *unit]))
    for process in gpu.get("processes", []):
        used_bytes = process["used_bytes"]
        fields = [
            process.get("list", "C"),
            process["pid"],
            "N/A" if used_bytes is None else used_bytes,
            process.get("gi", NO_INSTANCE),
            process.get("ci", NO_INSTANCE),
        ]
        yield "\t".join(map(str, ["process", *fields]))


def _unit(unit, name, uuid):
    return (
        unit.get("name", name),
        unit.get("uuid", uuid),
        unit.get("total_bytes", 80 * GIB),
        unit.get("reserved_bytes", 0),
        unit.get("used_bytes", 0),
        unit.get("gi", NO_INSTANCE),
        unit.get("ci", NO_INSTANCE),
    )
