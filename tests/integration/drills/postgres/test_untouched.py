"""What a drill does to production, before and after: nothing but a heartbeat, and for seconds a slot."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from bilten_orchestration.backups.repository.opened import BUCKETS, Opened
from bilten_orchestration.backups.wal.archive import Piece
from bilten_orchestration.drills.postgres import digests
from bilten_orchestration.drills.report import DrillReport
from bilten_orchestration.drills.run import run
from bilten_orchestration.stores import postgres
from tests.integration.backups.wal.conftest import Source
from tests.integration.drills.postgres.test_unchanged import checkpoint
from tests.processes import at_work_in, inet_sockets, names

# no drill and no stream can have measured it: it was sampled
SAMPLED_SECONDS = 123.25


@dataclass
class Drilled:
    """What was there before a drill and after it; what it did meanwhile."""

    before: dict[str, Any]
    after: dict[str, Any]
    objects: tuple[dict[str, str], dict[str, str]]
    pieces: tuple[list[Piece], list[Piece]]
    report: DrillReport
    sockets: list[Any]
    at_work: set[str]
    sampled: list[float]


@pytest.fixture(scope="module")
def drilled_once(shop: Source) -> Iterator[Drilled]:
    """Nobody sells, so rows are to be the same; a segment of WAL has just begun, so it is to be the same one;
    a subscription stands there that must neither be enabled nor go."""
    place = shop.settings.home / "drill-postgres"
    sockets: list[Any] = []
    at_work: set[str] = set()

    def progress(text: str) -> None:
        sockets.extend(inet_sockets(place))
        at_work.update(names(at_work_in(place)))

    with _superuser(shop) as connection:
        connection.execute(
            "create subscription standing connection 'host=127.0.0.1 port=1 dbname=x' publication p"
            " with (connect = false, slot_name = 'x')"
        )
    try:
        checkpoint(shop)
        shop.await_reach(shop.now())
        shop.execute(
            "insert into system.rpo_samples (sampled_at, bucket, reachable_until, rpo_seconds)"
            f" values (now(), '{shop.settings.object_store.bucket_backups}',"
            f" now() - interval '{SAMPLED_SECONDS} s', {SAMPLED_SECONDS})"
        )
        objects, pieces, before = _objects(shop), shop.pieces(), _state(shop)
        (report,) = run(shop.settings, "postgres", way="exact", progress=progress)
        yield Drilled(
            before,
            _state(shop),
            (objects, _objects(shop)),
            (pieces, shop.pieces()),
            report,
            sockets,
            at_work,
            [
                row[0]
                for row in shop.execute(
                    "select rpo_seconds from system.rpo_samples where bucket ="
                    f" '{shop.settings.object_store.bucket_backups}'"
                    f" and sampled_at <= '{report.started_at.isoformat()}' order by sampled_at desc limit 1"
                )
            ],
        )
    finally:
        with _superuser(shop) as connection:
            connection.execute("alter subscription standing disable")
            connection.execute("alter subscription standing set (slot_name = none)")
            connection.execute("drop subscription standing")


def _superuser(shop: Source) -> psycopg.Connection[tuple[Any, ...]]:
    own = shop.server.superuser.model_copy(update={"database": shop.settings.postgres.database})
    return postgres.connect(own, autocommit=True)


def _state(shop: Source) -> dict[str, Any]:
    """Of production: rows (the platform's own book-keeping aside), what replicates, what is set, the segment
    that WAL is written to, and the checkpoints that somebody asked for."""
    with _superuser(shop) as connection:
        digests.pin(connection)
        tables = [
            table for table in digests.tables(connection) if not table.label.startswith(("system.", "audit."))
        ]
        found = digests.compute([connection], tables, lambda text: None)

        def all_of(query: str) -> list[tuple[Any, ...]]:
            return connection.execute(query.encode()).fetchall()

        return {
            "rows": {label: (each.rows, each.hash) for label, each in found.tables.items()},
            "slots": all_of(
                "select slot_name, plugin, slot_type, database, temporary, active, wal_status"
                " from pg_replication_slots order by 1"
            ),
            "subscriptions": all_of("select oid, subname, subenabled, subslotname from pg_subscription"),
            "publications": all_of("select oid, pubname from pg_publication"),
            "settings": all_of("select name, setting from pg_settings where source <> 'session' order by 1"),
            "objects": all_of(
                "select c.oid, c.relname, c.relfilenode from pg_class c join pg_namespace n on n.oid ="
                " c.relnamespace where n.nspname not in ('pg_catalog', 'pg_toast')"
                " and n.nspname !~ '^pg_temp' order by 1"
            ),
            "prepared": all_of("select gid from pg_prepared_xacts"),
            "segment": all_of("select pg_walfile_name(pg_current_wal_insert_lsn())"),
            "checkpoints": all_of("select num_requested from pg_stat_checkpointer"),
        }


def _objects(shop: Source) -> dict[str, str]:
    """SHA-256 of every object of both buckets."""
    found = {}
    for bucket in BUCKETS:
        with Opened.of(shop.settings, new=False, bucket=bucket) as opened:
            for listed in list(opened.repository.list("")):
                try:
                    body = opened.repository.read_small(listed.name)
                except Exception:  # a part of a segment that grew meanwhile
                    if not listed.name.startswith("wal/"):
                        raise
                else:
                    found[f"{bucket} {listed.name}"] = hashlib.sha256(body).hexdigest()
    return found


def test_it_passed(drilled_once: Drilled) -> None:
    assert drilled_once.report.ok, drilled_once.report.problems
    assert drilled_once.before["rows"]["payments.payments"][0] >= 200


@pytest.mark.parametrize(
    "what",
    ["rows", "slots", "subscriptions", "publications", "settings", "objects", "prepared"],
)
def test_production_is_as_it_was(drilled_once: Drilled, what: str) -> None:
    assert drilled_once.after[what] == drilled_once.before[what]
    if what in ("slots", "subscriptions"):
        assert drilled_once.before[what], "there was something to be touched"


def test_nothing_is_forced(drilled_once: Drilled) -> None:
    """Neither a segment of WAL, which would make what is lost look like less, nor a checkpoint."""
    assert drilled_once.after["segment"] == drilled_once.before["segment"]
    assert drilled_once.after["checkpoints"] == drilled_once.before["checkpoints"]


def test_what_would_be_lost_is_what_was_sampled(drilled_once: Drilled) -> None:
    """Heartbeats go on each second: whoever measured anew would find a second or two."""
    (newest,) = drilled_once.sampled
    # the stream takes one a minute, perhaps just behind ours
    assert drilled_once.report.rpo_seconds in (newest, SAMPLED_SECONDS)
    assert newest == SAMPLED_SECONDS or newest < 60


def test_the_repository_keeps_what_it_had(drilled_once: Drilled) -> None:
    """What is new beside WAL is what a drill attests and marks. WAL that went is in a larger part."""
    before, after = drilled_once.objects
    gone = {name for name in before if name not in after and " wal/" not in name}
    assert gone == set()
    assert {name for name in before if name in after and after[name] != before[name]} == set()
    new = {name.partition(" ")[2] for name in after if name not in before and " wal/" not in name}
    assert {name.partition("/")[0] for name in new} == {"drills", "catalogue"}
    assert all("/drilled-" in name for name in new if name.startswith("catalogue/")), new
    pieces, now = drilled_once.pieces
    assert pieces
    for piece in pieces:
        assert any(each.file == piece.file and each.end_offset >= piece.end_offset for each in now), piece


def test_its_servers_reach_nobody(drilled_once: Drilled) -> None:
    assert "postgres" in drilled_once.at_work
    assert drilled_once.sockets == []
