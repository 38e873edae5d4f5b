import os
import subprocess
import sys

import psutil
import pytest

from vramtop.errors import RendezvousRefused
from vramtop.protocol import rendezvous


def test_a_directory_that_the_user_names_is_the_only_one(monkeypatch, tmp_path):
    monkeypatch.setenv("VRAMTOP_RUNTIME_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "xdg"))
    assert rendezvous.bind_directory() == tmp_path / "own"
    assert rendezvous.scan_directories() == [tmp_path / "own"]


def test_else_it_is_in_tmp_and_xdg_is_only_scanned(monkeypatch, tmp_path):
    monkeypatch.delenv("VRAMTOP_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "xdg"))
    usual = f"/tmp/vramtop-{os.getuid()}"
    assert str(rendezvous.bind_directory()) == usual
    found = [str(directory) for directory in rendezvous.scan_directories()]
    assert found == [usual, str(tmp_path / "xdg" / "vramtop")]


def test_the_directory_is_made_private(tmp_path):
    path = tmp_path / "run"
    rendezvous.ensure_directory(path)
    assert path.stat().st_mode & 0o777 == 0o700
    rendezvous.ensure_directory(path)  # and is found again


def test_a_planted_link_is_refused(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(RendezvousRefused, match="not a directory"):
        rendezvous.ensure_directory(tmp_path / "link")


def test_an_open_directory_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "open"
    path.mkdir()
    path.chmod(0o770)
    with pytest.raises(RendezvousRefused, match=f"chmod 700 {path}"):
        rendezvous.ensure_directory(path)


def test_a_directory_that_others_may_replace_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "all").mkdir()
    (tmp_path / "all").chmod(0o777)
    with pytest.raises(RendezvousRefused, match=f"chmod .t {tmp_path / 'all'}"):
        rendezvous.ensure_directory(tmp_path / "all" / "run")
    (tmp_path / "all").chmod(0o1777)
    rendezvous.ensure_directory(tmp_path / "all" / "run")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a foreign directory")
def test_a_foreign_directory_is_refused(tmp_path):
    path = tmp_path / "foreign"
    path.mkdir(mode=0o700)
    os.chown(path, 12345, 12345)
    with pytest.raises(RendezvousRefused, match="uid 12345"):
        rendezvous.ensure_directory(path)


def test_a_missing_parent_is_a_refusal_not_a_crash(tmp_path):
    with pytest.raises(RendezvousRefused, match="cannot create"):
        rendezvous.ensure_directory(tmp_path / "a" / "b")


def test_socket_names_carry_the_start_time():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        path = rendezvous.socket_path(rendezvous.bind_directory(), child.pid)
        pid, ticks = rendezvous.parse_socket_name(path.name)
        started = psutil.boot_time() + ticks / os.sysconf("SC_CLK_TCK")
        assert pid == child.pid
        assert abs(started - psutil.Process(child.pid).create_time()) < 0.02
        child.communicate(b"\n")


@pytest.mark.parametrize(
    "name", ["x.sock", "12.sock", "12-.sock", "12-x.sock", "12-3", "-1-2.sock"]
)
def test_other_names_are_no_sockets_of_ours(name):
    assert rendezvous.parse_socket_name(name) is None
