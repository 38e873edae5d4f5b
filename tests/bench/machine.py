"""One line that names the machine a table was made on, and the table itself."""

import os
import platform
import re
import sys
from pathlib import Path


def describe():
    """CPU, cores, RAM, kernel, Python."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.*)", info)
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, {ram:.0f} GiB RAM, "
        f"Linux {platform.release()}, Python {sys.version.split()[0]}"
    )


def print_table(title, heads, rows):
    """A title, the machine and aligned columns."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    print(f"\n## {title}\n{describe()}\n")
    for row in (heads, ["-" * width for width in widths], *rows):
        cells = [
            c.ljust(w) if i == 0 else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    sys.stdout.flush()
