"""A full backup killed at ten points and at its end: there is none of it, or all; nothing of it works on."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bilten_orchestration.backups.postgres.base import take
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.backups.verify import verify
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from tests.integration.backups.postgres.test_base import basebackups
from tests.integration.backups.shop import Shop
from tests.waiting import until

#: In the order of base.take; only behind the last one is there a backup.
POINTS = (
    "locks held",
    "server looked at",
    "slot made",
    "pg_basebackup started",
    "first object begun",
    "first object stored",
    "a part of an object stored",
    "in a later object",
    "objects stored",
    "PostgreSQL's manifest stored",
)
WHOLE = "manifest signed and stored"

KILLED = """
import itertools, os, signal, sys
from contextlib import contextmanager
from bilten_orchestration.backups import lock
from bilten_orchestration.backups.postgres import base, programs, server
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.settings.loading import load_settings

def reached(point):
    if point == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)

def before(owner, name, point):
    real = getattr(owner, name)
    setattr(owner, name, lambda *given, **named: (reached(point), real(*given, **named))[1])

def after(owner, name, point):
    real = getattr(owner, name)
    def through(*given, **named):
        answer = real(*given, **named)
        reached(point)
        return answer
    setattr(owner, name, through)

before(server, "look", "locks held")
before(programs, "directory", "server looked at")
before(programs, "connection_arguments", "slot made")
before(Opened, "put_slices", "pg_basebackup started")
before(Opened, "put", "objects stored")
before(catalogue, "add", "PostgreSQL's manifest stored")
after(catalogue, "add", "manifest signed and stored")
write, writes = Repository.write, itertools.count(1)
def written(self, name, chunks):
    number = next(writes)
    def read():
        for at, chunk in enumerate(chunks):
            if number == 1:
                reached("first object begun")
            if at == 9:  # pieces of 1 MiB, parts of 8
                reached("a part of an object stored")
            if number > 2 and at == 1:
                reached("in a later object")
            yield chunk
    stored = write(self, name, read())
    if number == 1:
        reached("first object stored")
    return stored
Repository.write = written
base.take(load_settings())
"""


@pytest.mark.faults
def test_at_ten_points(shop: Shop, environment: Callable[[Settings], dict[str, str]]) -> None:
    shop.settings = shop.settings.model_copy(
        update={"backups": shop.settings.backups.model_copy(update={"slice_bytes": 16 << 20})}
    )
    with postgres.connect(shop.settings.postgres) as connection:
        connection.execute(  # 40 MiB that nothing makes smaller
            "create table noise as select string_agg(sha512((n * 16 + m)::text::bytea), '') as bytes"
            " from generate_series(1, 40960) n, generate_series(0, 15) m group by n"
        )
    for point in POINTS:
        _killed(shop, environment, point)
        assert shop.listed() == [], point
    _killed(shop, environment, WHOLE)
    (whole,) = shop.listed()
    assert verify(shop.settings, whole, by="a test").problems == ()
    report = take(shop.settings)
    assert shop.listed() == [whole, report.manifest.id]
    shop.restored(report.manifest.id)
    with Opened.of(shop.settings) as opened:
        left = {each.name.split("/")[2] for each in opened.repository.list("objects/postgres/")}
        begun = list(opened.repository.unfinished())
    assert left > {whole, report.manifest.id}, "no kill was between two objects"
    assert begun, "no kill was between two parts"


def _killed(shop: Shop, environment: Callable[[Settings], dict[str, str]], point: str) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, point],
        env=environment(shop.settings) | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, (point, killed.stderr)
    until(
        lambda: not basebackups(shop) and not _left_in_the_server(shop),
        f"{point}: what the server still does",
    )


def _left_in_the_server(shop: Shop) -> list[tuple[object, ...]]:
    """Slots, senders and locks of a backup that nobody waits for any more."""
    with postgres.connect(shop.settings.postgres) as connection:
        return connection.execute(
            "select slot_name from pg_replication_slots union all"
            " select application_name from pg_stat_activity"
            " where application_name like 'bilten%' and pid <> pg_backend_pid()"
        ).fetchall()
