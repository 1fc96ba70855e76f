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
from bilten_orchestration.observability.history import Level
from bilten_orchestration.observability.installed import Installation, Installed, asked
from bilten_orchestration.observability.sources import disks, past, promises, repository, stores, wal
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


def installed(days: float) -> Installed:
    """A platform of that age."""
    at = datetime.now(UTC) - timedelta(days=days)
    return Installed(at, at)


def new() -> Installed:
    return installed(0)


def old() -> Installed:
    return installed(400)


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
    early = promises.Marts(settings, new).read()
    assert early.findings == ()
    assert [(promise.kept, promise.not_due) for promise in early.promises] == [(None, True)]
    source = promises.Marts(settings, old)
    reading = source.read()
    assert set(of(reading)) == {f"mart/{mart}" for mart in freshness.daily_marts()}
    assert [(promise.kept, promise.not_due) for promise in reading.promises] == [(False, False)]
    now = datetime.now(UTC)
    due = days.newest_over(now - freshness.FINAL_TAKES)
    first, second, *others = freshness.daily_marts()
    states = {first: (True, "refused"), second: (False, "swapped")} | dict.fromkeys(others, (True, "swapped"))
    with closing(clickhouse.connect(settings.clickhouse)) as client:
        client.insert(
            "analytics.sync_batches",
            [[1, "first", 1, "{}", now, now, {}, 0]],
            column_names=[
                *("batch", "kind", "mark", "epoch", "as_of", "settled_until", "rows_by_table", "touched_days")
            ],
        )
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
    # what was built is late whatever the age
    assert set(of(promises.Marts(settings, new).read())) == set(found)
    assert found[f"mart/{first}"].problem.next == f"bilten metrics build --from {due} --to {due}"


def test_daily_marts_are_those_of_the_manifest(parsed_project: Path) -> None:
    found = manifest.marts(json.loads(manifest.find(Settings(home=parsed_project))[0].read_text()))
    assert freshness.daily_marts() == tuple(mart.name for mart in found)


def test_lags_of_the_sync_and_of_search(settings: Settings) -> None:
    searching = settings.model_copy(update={"opensearch": OpenSearchSettings(enabled=True)})
    half_an_hour = promises.Lags(searching, lambda: installed(1 / 48)).read()
    assert set(of(half_an_hour)) == {"lag/search"}  # its limit is a quarter of an hour
    assert {promise.name: promise.not_due for promise in half_an_hour.promises} == {
        "sync_lag": True,
        "search_lag": False,
    }
    assert set(of(promises.Lags(searching, old).read())) == {"lag/clickhouse", "lag/search"}
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
    reading = promises.Lags(searching, new).read()
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


def test_an_empty_repository_is_late_once_its_first_schedule_has_passed(settings: Settings) -> None:
    with pytest.raises(BiltenError):  # no keys: nobody knows
        repository.Repository(settings, new).read()
    settings.home.mkdir(parents=True)
    keys.ensure(key_file(settings))
    early = repository.Repository(settings, new).read()
    assert early.findings == ()
    assert {(promise.kept, promise.not_due, promise.value) for promise in early.promises} == {
        (None, True, None)
    }
    assert {cell.state for cell in early.cells} == {"not_yet"}
    late = repository.Repository(settings, old).read()
    found = of(late)
    assert found["backup/redis/full"].problem.next == "bilten backup create redis --kind full"
    assert found["backup/postgres/full"].severity == "critical"
    assert {promise.kept for promise in late.promises if promise.name.startswith("backup_age")} == {False}
    # without a drill nobody can say whether it would have warned
    assert {
        promise.name.rpartition("/")[2]: (promise.kept, promise.not_due)
        for promise in late.promises
        if promise.name.startswith("drill/redis")
    } == {
        "recovery_point_is_recent": (False, False),
        "recovery_time_is_short": (False, False),
        "drilled_recently": (False, False),
        "every_way_was_walked": (False, False),
        "nothing_warned": (None, False),
    }
    assert {cell.state for cell in late.cells if cell.day < datetime.now(UTC).date()} == {"bad"}
    unsaid = repository.Repository(settings, lambda: Installed(None, datetime.now(UTC))).read()
    assert unsaid.findings == ()
    assert {(promise.kept, promise.not_due) for promise in unsaid.promises} == {(None, False)}


def test_the_installation_is_as_old_as_its_first_migration(
    settings: Settings, empty_settings: Settings, tmp_path: Path
) -> None:
    with postgres.connect(settings.postgres) as connection:
        row = connection.execute("select min(started_at) from system.migrations").fetchone()
    assert row is not None and asked(settings) == row[0] is not None
    assert asked(empty_settings) is None
    away = settings.model_copy(
        update={"postgres": settings.postgres.model_copy(update={"port": ports.any_free()})}
    )
    assert Installation(away, tmp_path)().at is None


def test_the_past_in_the_stores(settings: Settings) -> None:
    execute(
        settings,
        "insert into system.database_samples (database_name, sampled_at, connections, connections_limit,"
        " database_bytes) values ('bilten', now() - interval '49 hours', 1, 10, 5),"
        " ('bilten', now() - interval '48 hours', 1, 10, 7),"
        " ('bilten', now() - interval '99 days', 1, 10, 1)",
    )
    levels = past.PostgresSizes(settings).read().levels
    assert 7 in {level.bytes for level in levels} and 1 not in {level.bytes for level in levels}
    day = datetime.now(UTC).date() - timedelta(days=9)
    hour = datetime(day.year, day.month, day.day, 3, tzinfo=UTC)
    marts = freshness.daily_marts()
    with closing(clickhouse.connect(settings.clickhouse)) as client:
        client.insert(
            "analytics.platform_figures",
            [[hour, "clickhouse", "marts", "size_bytes", 3.0], [hour, "postgres", "x", "size_bytes", 9.0]],
            column_names=["hour", "store", "subject", "figure", "value"],
        )
        client.insert(
            "analytics.mart_days",
            [[mart, day, True, datetime.now(UTC), 1, 1, "swapped", "r"] for mart in marts],
            column_names=["mart", "day", "is_final", "as_of", "batch", "rows", "verdict", "run_id"],
        )
    reading = past.ClickHouseDays(settings, old).read()
    assert reading.levels == (Level("clickhouse/marts", day, 3),)
    assert {cell.day: cell.state for cell in reading.cells}[day] == "good"
    assert {cell.day: cell.state for cell in reading.cells}[day - timedelta(days=1)] == "bad"


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
    source = wal.WalStream(settings, old)
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
    nothing = tuple(statuses.BucketStatus(bucket, None, None) for bucket in ("bilten-backups", "x"))
    word(settings, buckets=nothing)
    assert set(of(source.read())) == {"rpo/bilten-backups", "rpo/x"}
    early = wal.WalStream(settings, new).read()  # the first segment has not been shipped
    assert early.findings == ()
    assert {(promise.kept, promise.not_due) for promise in early.promises} == {(None, True)}
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
