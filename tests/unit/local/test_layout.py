"""Where things lie: long paths, homes that only root may enter, directories of somebody else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bilten_orchestration.backups import scratch
from bilten_orchestration.errors import Refused
from bilten_orchestration.local import layout as places
from bilten_orchestration.local import privileges
from bilten_orchestration.progress import silent
from bilten_orchestration.settings import Settings


@pytest.fixture(autouse=True)
def _directories_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "SHORT", tmp_path)
    monkeypatch.setattr(privileges, "OUTSIDE", tmp_path / "outside")


def test_sockets_of_a_long_path_are_elsewhere_and_short(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 40) / ".bilten"
    found = places.layout(home)
    assert not found.sockets.is_relative_to(home)
    assert found.sockets == places.layout(home).sockets
    assert found.sockets != places.layout(tmp_path / ("long" * 41) / ".bilten").sockets


def test_private_directories_are_private(tmp_path: Path) -> None:
    found = places.layout(tmp_path / ".bilten")
    for directory in (found.logs, found.programs, found.dagster_home, found.supervisor_socket.parent):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_a_socket_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 40) / ".bilten"
    sockets = places.layout(home).sockets
    for directory in sorted(sockets.rglob("*"), reverse=True):
        directory.rmdir()
    sockets.rmdir()
    sockets.symlink_to(tmp_path)
    with pytest.raises(Refused, match="is not ours"):
        places.layout(home)


def test_data_leave_a_home_that_the_servers_user_cannot_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody = privileges.ServerUser("somebody", os.geteuid() + 12345, os.getegid() + 12345)
    monkeypatch.setattr(places, "server_user", lambda: somebody)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    found = places.layout(closed / ".bilten")
    assert found.data.is_relative_to(tmp_path / "outside")
    assert not found.sockets.is_relative_to(closed)


def test_reachable_asks_every_part_of_the_path(tmp_path: Path) -> None:
    somebody = privileges.ServerUser("somebody", os.geteuid() + 12345, os.getegid() + 12345)
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    parts = [tmp_path / "a" / "b", tmp_path / "a"]
    for part in parts:
        part.chmod(0o711)
    before = privileges.reachable(Path("/"), somebody)
    parts[1].chmod(0o700)
    assert before
    assert not privileges.reachable(inner, somebody)
    assert privileges.reachable(inner, None)


def test_a_copy_is_made_where_the_original_cannot_be_reached(tmp_path: Path) -> None:
    somebody = privileges.ServerUser("somebody", os.geteuid() + 12345, os.getegid() + 12345)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "server").write_text("v1")
    first = privileges.reachable_copy(closed / "server", tmp_path, somebody)
    assert first.read_text() == "v1"
    assert first == privileges.reachable_copy(closed / "server", tmp_path, somebody)
    (closed / "server").write_text("version 2")
    assert privileges.reachable_copy(closed / "server", tmp_path, somebody).read_text() == "version 2"


def test_a_state_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="cannot be made"):
        places.layout(tmp_path / "file" / ".bilten")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_state_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    home = tmp_path / ".bilten"
    home.mkdir()
    os.chown(home, 12345, 12345)
    with pytest.raises(Refused, match="is not ours"):
        places.layout(home)


@pytest.fixture
def narrow_umask() -> Iterator[None]:
    """That of Dagster's processes, and of many a root."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("narrow_umask")
def test_the_servers_user_can_walk_to_what_is_made_under_a_narrow_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody = privileges.ServerUser("somebody", os.geteuid() + 12345, os.getegid() + 12345)
    monkeypatch.setattr(places, "server_user", lambda: somebody)
    monkeypatch.setattr(scratch, "server_user", lambda: somebody)
    monkeypatch.setattr(privileges, "reachable", lambda path, user: path != tmp_path / "site-packages")
    home = tmp_path / ".bilten"
    settings = Settings(home=home)
    programs = tmp_path / "site-packages"
    (programs / "bin").mkdir(parents=True)
    (programs / "bin" / "postgres").write_text("#!")
    (programs / "bin" / "postgres").chmod(0o700)
    (programs / "library").write_text("bytes")
    found = places.layout(home)
    copy = privileges.reachable_copy(programs, home, somebody)
    with scratch.place(settings, "drill-test", "drill run", silent) as place:
        modes = {path: path.stat().st_mode & 0o777 for path in (home, found.data, place)}
    assert set(modes.values()) == {0o711}
    assert [
        path.stat().st_mode & 0o777 for path in (copy.parent, copy, copy / "bin/postgres", copy / "library")
    ] == [0o755, 0o755, 0o755, 0o644]
