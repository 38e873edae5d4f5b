import subprocess
import sys

import psutil

from vramtop.sources.host import HostBackend

HOLD = "x = b'1' * ({} << 20); print(1, flush=True); input()"


def test_ram_as_psutil_says_and_the_largest_processes():
    with subprocess.Popen(
        [sys.executable, "-c", HOLD.format(300)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        reading = HostBackend().read()
        (use,) = reading.uses[child.pid]
        rss = psutil.Process(child.pid).memory_info().rss
        child.kill()
    (device,) = reading.devices
    assert (use.uuid, use.used_bytes, use.kind) == (device.uuid, rss, "H")
    assert device.memory.total_bytes == psutil.virtual_memory().total
    assert device.memory.used_bytes + device.memory.free_bytes == device.memory.total_bytes
    assert device.memory.driver_reserved_bytes is None


def test_small_processes_are_not_listed():
    with subprocess.Popen(["sleep", "60"]) as child:
        assert child.pid not in HostBackend().read().uses
        child.kill()
