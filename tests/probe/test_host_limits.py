"""How much memory the host would still give, from what the kernel writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from vramtop.probe import host_limits

MIB = 1 << 20


def group(folder, limit, used, cached):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    stat = f"anon {used - cached}\nfile {cached}\ninactive_file {cached - 5}\nactive_file 5\n"
    (folder / "memory.stat").write_text(stat)


def test_the_tightest_cgroup_counts_without_what_is_cached(tmp_path, monkeypatch):
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    if own is None:
        # The group is looked up in the real /proc; on v1 the probe reads no limits at all.
        pytest.skip("no cgroup v2 here")
    monkeypatch.setattr(host_limits, "_CGROUPS", tmp_path)
    assert host_limits._cgroup() is None
    inner = tmp_path / own.strip("/")
    group(inner, 1000 * MIB, 990 * MIB, 600 * MIB)
    assert host_limits._cgroup() == ("cgroup", 610 * MIB, 1000 * MIB)
    (inner / "memory.max").write_text("max\n")
    assert host_limits._cgroup() is None
