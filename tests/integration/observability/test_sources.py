"""What each source says of real stores: as they are, and with one thing wrong."""

from __future__ import annotations

import json
import os
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from bilten_orchestration.backups.repository import keys
from bilten_orchestration.backups.repository.opened import key_file
from bilten_orchestration.backups.wal import status as statuses
from bilten_orchestration.errors import BiltenError, Problem
from bilten_orchestration.local import ports
from bilten_orchestration.metrics import days, freshness, manifest
from bilten_orchestration.observability.finding import Finding, Reading
from bilten_orchestration.observability.sources import disks, promises, stores, wal
from bilten_orchestration.settings import (
    AlertSettings,
    BackupSettings,
    DagsterSettings,
    OpenSearchSettings,
    Settings,
)
from bilten_orchestration.stores import clickhouse, postgres
from tests import stack
from tests.waiting import until


def of(reading: Reading) -> dict[str, Finding]:
    return {finding.key: finding for finding in reading.findings}


def execute(settings: Settings, statement: str) -> None:
    with postgres.connect(settings.postgres, autocommit=True) as connection:
        connection.execute(statement)


def test_stores_that_answer(settings: Settings) -> None:
    nobody = settings.model_copy(update={"dagster": DagsterSettings(port=ports.any_free())})
    found = {each.store: each.read() for each in stores.sources(nobody)}
    assert {store for store, reading in found.items() if not reading.findings} == {
        "postgres",
        "clickhouse",
        "redis",
        "object-store",
    }
    assert found["postgres"].detail.startswith("18.")
    (away,) = found["dagster-webserver"].findings
    assert away.kind == "store-down" and away.severity == "warning"


def test_a_store_that_does_not_let_us_in_is_down(settings: Settings) -> None:
    wrong = settings.model_copy(
        update={"redis": settings.redis.model_copy(update={"password": stack.SecretStr("wrong")})}
    )
    (source,) = (each for each in stores.sources(wrong) if each.store == "redis")
    (finding,) = source.read().findings
    assert "does not accept the password" in finding.problem.what
    assert finding.key == "store/redis"


def test_marts_by_their_newest_closed_day(settings: Settings) -> None:
    source = promises.Marts(settings)
    reading = source.read()
    assert set(of(reading)) == {f"mart/{mart}" for mart in freshness.daily_marts()}
    assert all(finding.after_seconds for finding in reading.findings)  # never built: not late yet
    now = datetime.now(UTC)
    due = days.newest_over(now - freshness.FINAL_TAKES)
    first, second, *others = freshness.daily_marts()
    states = {first: (True, "refused"), second: (False, "swapped")} | dict.fromkeys(others, (True, "swapped"))
    with closing(clickhouse.connect(settings.clickhouse)) as client:
        client.insert(
            "analytics.mart_days",
            [
                [mart, due, final, datetime.now(UTC), 1, 1, said, "r"]
                for mart, (final, said) in states.items()
            ],
            column_names=["mart", "day", "is_final", "as_of", "batch", "rows", "verdict", "run_id"],
        )
    found = of(source.read())
    assert {key: finding.problem.found for key, finding in found.items()} == {
        f"mart/{first}": "refused, final",
        f"mart/{second}": "swapped, provisional",
    }
    assert all(finding.after_seconds is None for finding in found.values())
    assert found[f"mart/{first}"].problem.next == f"bilten metrics build --from {due} --to {due}"


def test_daily_marts_are_those_of_the_manifest(parsed_project: Path) -> None:
    found = manifest.marts(json.loads(manifest.find(Settings(home=parsed_project))[0].read_text()))
    assert freshness.daily_marts() == tuple(mart.name for mart in found)


def test_lags_of_the_sync_and_of_search(settings: Settings) -> None:
    searching = settings.model_copy(update={"opensearch": OpenSearchSettings(enabled=True)})
    found = of(promises.Lags(searching).read())
    assert {key: finding.after_seconds for key, finding in found.items()} == {
        "lag/clickhouse": 3600.0,
        "lag/search": 900.0,
    }
    execute(
        settings,
        "insert into system.sync_state (consumer, batch, as_of, applying_batch) values"
        " ('clickhouse', 7, now() - interval '7 hours', 8), ('search:events-1', 7, now(), null)"
        " on conflict (consumer) do update set as_of = excluded.as_of, batch = 7,"
        " applying_batch = excluded.applying_batch",
    )
    execute(
        settings,
        "insert into system.search_state (alias, index_name) values ('events_index', 'events-1')"
        " on conflict (alias) do update set index_name = excluded.index_name",
    )
    reading = promises.Lags(searching).read()
    (late,) = reading.findings
    assert (late.key, late.severity) == ("lag/clickhouse", "critical")
    assert "420 min ago; batch 8 was interrupted" in late.problem.found
    assert {promise.name: promise.kept for promise in reading.promises} == {
        "sync_lag": False,
        "search_lag": True,
    }


def test_partitions_ahead(settings: Settings) -> None:
    source = promises.Partitions(settings)
    assert source.read().findings == ()
    with postgres.connect(settings.postgres, autocommit=True) as connection:
        names = [
            name
            for (name,) in connection.execute(
                "select inhrelid::regclass::text from pg_inherits"
                " where inhparent = 'audit.audit_log'::regclass order by 1"
            ).fetchall()
        ]
        for name in names[1:]:
            connection.execute(f"drop table {name}")
    (few,) = source.read().findings
    assert (few.key, few.severity) == ("partitions/audit.audit_log", "critical")
    assert few.problem.next.startswith("bilten partitions apply")


def test_an_empty_repository_is_late_once_its_time_has_passed(settings: Settings) -> None:
    with pytest.raises(BiltenError):  # no keys: nobody knows
        promises.Repository(settings).read()
    settings.home.mkdir(parents=True)
    keys.ensure(key_file(settings))
    reading = promises.Repository(settings).read()
    found = of(reading)
    assert found["backup/postgres/full"].after_seconds == 26 * 3600
    assert found["backup/redis/full"].problem.next == "bilten backup create redis --kind full"
    assert all(finding.after_seconds for finding in reading.findings)
    assert {promise.kept for promise in reading.promises if promise.name.startswith("backup_age")} == {False}


def word(settings: Settings, **given: object) -> None:
    now = datetime.now(UTC)
    buckets = settings.object_store
    values: dict[str, object] = {
        "at": now,
        "pid": os.getpid(),
        "state": "streaming",
        "system_identifier": "1",
        "timeline": 1,
        "shipped": "0/1",
        "shipped_at": now,
        "spool_bytes": 0,
        "spool_limit_bytes": 1,
        "buckets": (
            statuses.BucketStatus(buckets.bucket_backups, now - timedelta(seconds=20), 20.0),
            statuses.BucketStatus(buckets.bucket_backups_copy, now - timedelta(hours=1), 3600.0),
        ),
        "problems": (),
        **given,
    }
    settings.home.mkdir(parents=True, exist_ok=True)
    statuses.write(statuses.place(settings), statuses.WalStatus(**values))  # type: ignore[arg-type]


def test_the_stream_of_wal_by_what_it_says(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    source = wal.WalStream(settings)
    reading = source.read()
    assert of(reading)["wal/stream"].severity == "critical"
    assert [(promise.name, promise.kept) for promise in reading.promises] == [("rpo", None)]
    word(settings)
    reading = source.read()
    (missed,) = reading.findings
    assert (missed.key, missed.severity) == ("rpo/bilten-backups-copy", "warning")
    assert {promise.name: promise.kept for promise in reading.promises} == {
        "rpo/bilten-backups": True,
        "rpo/bilten-backups-copy": False,
    }
    word(settings, problems=(Problem("the second bucket is behind: x"),), buckets=())
    assert of(source.read())["wal/stream"].severity == "warning"
    word(settings, at=datetime.now(UTC) - timedelta(hours=1), buckets=())
    assert of(source.read())["wal/stream"].problem.what == "WAL is not being taken"


def test_slots_and_heartbeats(own_postgres: stack.PostgresServer, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, environment="test", postgres=own_postgres.settings())
    source = wal.WalSource(settings)
    execute(
        settings,
        "create schema system;"
        " create table system.heartbeats (source text, beat bigint, beat_at timestamptz)",
    )
    assert source.read() == Reading((), (), "0 slots")
    execute(settings, "insert into system.heartbeats values ('wal', 1, now() - interval '5 minutes')")
    (silent,) = source.read().findings
    assert (silent.key, silent.kind) == ("wal/heartbeat", "wal-heartbeat")
    execute(settings, "update system.heartbeats set beat_at = now()")
    execute(settings, "select pg_create_physical_replication_slot('shipped', true)")
    assert source.read().findings == ()
    with postgres.connect(own_postgres.superuser, autocommit=True) as connection:
        connection.execute("alter system set max_slot_wal_keep_size = '32MB'")
        connection.execute("select pg_reload_conf()")
        # 28 MiB of WAL: above four fifths, and not above all of it
        for _ in range(28):
            connection.execute("select pg_logical_emit_message(false, 'x', repeat('x', 1 << 20))")
    (kept,) = source.read().findings
    assert (kept.key, kept.kind, kept.severity) == ("slot/shipped", "wal-slot", "critical")
    with postgres.connect(own_postgres.superuser, autocommit=True) as connection:
        for _ in range(6):
            connection.execute("select pg_switch_wal()")
            connection.execute("select pg_logical_emit_message(true, 'x', 'x')")

    def given_up() -> bool:
        """WAL that is not summarized yet is kept, whatever a slot may keep."""
        execute(settings, "checkpoint")
        (lost,) = source.read().findings
        assert lost.key == "slot/shipped"
        return lost.problem.found in ("lost", "unreserved")

    until(given_up, "the slot is given up")


def test_disks(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Settings(
        home=tmp_path,
        alerts=AlertSettings(disk_warning_percent=98, disk_critical_percent=99),
        backups=BackupSettings(wal_spool=tmp_path),
    )
    reading = disks.LocalDisks(here).read()
    assert {promise.unit for promise in reading.promises} == {"percent"}
    assert any("the state directory" in promise.name for promise in reading.promises)
    for used, severity in ((97, None), (98, "warning"), (99.5, "critical")):
        usage = SimpleNamespace(total=1000.0, used=used * 10, free=1000 - used * 10)
        monkeypatch.setattr(disks.shutil, "disk_usage", lambda path, usage=usage: usage)
        found = disks.LocalDisks(here).read().findings
        assert [each.severity for each in found] == [severity] * len(found)
        assert bool(found) is (severity is not None)
    rooms = disks.ClickHouseDisks(settings).read().promises
    assert any("ClickHouse" in promise.name and promise.value is not None for promise in rooms)
