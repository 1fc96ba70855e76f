"""Living traffic keeps every rule, its rate and its head."""

# ruff: noqa: E501 (statements and their bounds side by side)

from __future__ import annotations

import gc
import json
import signal
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bilten_orchestration.demo import traffic
from bilten_orchestration.demo.actions import ACTIONS
from bilten_orchestration.demo.load import load
from bilten_orchestration.demo.validate import examine, require
from bilten_orchestration.errors import Refused, StoreUnavailable, UsageError
from bilten_orchestration.local import ports
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres, redis
from tests import stack
from tests.waiting import until

TRACES = {
    "purchases": "select count(*) from payments.payments where transaction_id like 'tr_%' and captured_at is not null",
    "audit log": "select count(*) from audit.audit_log where actor = 'bilten_app'",
    "tombstones": "select count(*) from system.deleted_rows d where d.deleted_at > now() - interval '5 minutes'",
}


def require_rules(settings: Settings) -> None:
    with postgres.connect(settings.postgres) as connection:
        require(examine(connection))


def count(settings: Settings, query: str) -> int:
    with postgres.connect(settings.postgres) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def test_some_seconds_of_traffic_keep_every_rule(settings: Settings) -> None:
    load(settings, scale=0.05, today=datetime.now(UTC).date(), parts=())
    before = {name: count(settings, query) for name, query in TRACES.items()}
    report = traffic.run(settings, rate_per_second=70, seconds=15)
    require_rules(settings)
    assert report.problems == ()
    turns = sum(report.done.values()) + sum(report.nothing_to_do.values())
    assert turns + report.dropped == pytest.approx(70 * 15, rel=0.1)
    assert report.achieved_per_second == pytest.approx(70, rel=0.15)
    assert set(report.done) >= {
        "purchase",
        "page_view",
        "refund",
        "check_in",
        "transfer",
        "edit_event",
        "abandoned_cart",
    }
    assert set(report.done) <= {"purchase", "page_view", *ACTIONS}
    for name, query in TRACES.items():
        assert count(settings, query) > before[name], name
    assert count(settings, TRACES["purchases"]) <= report.done["purchase"], "free tickets have no payment"

    client = clickhouse.connect(settings.clickhouse)
    written = client.query(
        "select count(), countIf(ingested_at > timestamp + interval 5 minute) from analytics.events"
    )
    # what was delivered again is another row until it is merged away
    assert 0.95 * report.clicks_written <= written.result_rows[0][0] <= report.clicks_written
    assert report.clicks_written > 100
    assert written.result_rows[0][1] > 0, "some clicks come late"
    client.close()
    cache = redis.connect(settings.redis)
    assert list(cache.scan_iter("event:*:views"))
    cache.close()


# how many rows each kind of change left since `since`: exactly as many as were done, or at least one
LEFT = {
    "refund": "payments.refunds where refunded_at > %(since)s and reason = 'requested by buyer'",
    "reversal": "payments.refunds where reversed_at > %(since)s",
    "chargeback": "payments.chargebacks where charged_back_at > %(since)s",
    "ruling": "payments.chargebacks where status <> 'open' and updated_at > %(since)s",
    "check_in": "tickets.tickets where checked_in_at > %(since)s",
    "transfer": "tickets.tickets where transferred_from is not null and created_at > %(since)s",
    "announce": "events.events where created_at > %(since)s",
    "edit_event": "audit.audit_log where table_name = 'events' and action = 'UPDATE' and created_at > %(since)s",
    "edit_venue": "audit.audit_log where table_name = 'venues' and action = 'UPDATE' and created_at > %(since)s",
    "edit_capacity": "tickets.ticket_type_capacity_log l where valid_from > %(since)s and exists (select from"
    " tickets.ticket_type_capacity_log o where o.ticket_type_id = l.ticket_type_id and o.valid_from < l.valid_from)",
    "forget_failed_payment": "system.deleted_rows where table_name = 'payments.payments' and deleted_at > %(since)s",
}  # fmt: skip
SOME = {
    "purchase": "payments.payments where captured_at > %(since)s",
    "comp": "tickets.tickets where is_complimentary and transferred_from is null and created_at > %(since)s",
    "abandoned_cart": "payments.payments where captured_at is null and created_at > %(since)s",
}


def test_every_kind_of_change_goes_on_though_all_is_sold_out(settings: Settings) -> None:
    """Nothing but what is announced meanwhile can be bought, after the last seat of each ticket type."""
    load(settings, scale=0.05, today=datetime.now(UTC).date(), parts=())
    with postgres.connect(settings.postgres) as connection:
        connection.execute("update tickets.ticket_types set quantity = sold + reserved + 1")
    with postgres.connect(settings.postgres) as connection:
        row = connection.execute("select clock_timestamp()").fetchone()
    assert row is not None
    report = traffic.run(settings, rate_per_second=80, seconds=20)
    require_rules(settings)
    assert report.problems == ()
    assert set(report.done) == {"purchase", "page_view", *ACTIONS} == {"page_view", *LEFT, *SOME}
    assert report.done["purchase"] > report.nothing_to_do["purchase"]
    with postgres.connect(settings.postgres) as connection:
        for name, rows in {**LEFT, **SOME}.items():
            found = connection.execute(f"select count(*) from {rows}".encode(), {"since": row[0]}).fetchone()
            assert found is not None
            assert found[0] == report.done[name] if name in LEFT else found[0] > 0, (
                name,
                found[0],
                report.done[name],
            )


@pytest.mark.faults
def test_memory_stays_as_it_is(settings: Settings) -> None:
    """At 200 changes a second, between the tenth second and the thirtieth."""
    load(settings, scale=0.02, today=datetime.now(UTC).date(), parts=())
    held: list[int] = []

    def tell(text: str) -> None:
        if "changes," in text:
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        report = traffic.run(settings, rate_per_second=200, seconds=30, progress=tell)
    finally:
        tracemalloc.stop()
    assert sum(report.done.values()) > 2_000
    assert len(held) >= 12  # one a second, where the machine keeps up
    third = len(held) // 3
    early, late = statistics.median(held[third : 2 * third]), statistics.median(held[-third:])
    assert late - early < 1 << 20, [held_bytes >> 10 for held_bytes in held]


def test_it_stops_when_told_and_not_later(settings: Settings) -> None:
    load(settings, scale=0.02, today=datetime.now(UTC).date(), parts=())
    stop = threading.Event()
    threading.Timer(2, stop.set).start()
    started = time.monotonic()
    report = traffic.run(settings, rate_per_second=20, stop=stop)
    assert time.monotonic() - started < 12
    assert report.seconds < 10
    assert sum(report.done.values()) > 0


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_totals(
    settings: Settings, environment: Callable[[Settings], dict[str, str]], name: signal.Signals
) -> None:
    load(settings, scale=0.02, today=datetime.now(UTC).date(), parts=())
    code = (
        "import typer; from bilten_orchestration.cli import demo;"
        "app = typer.Typer(pretty_exceptions_enable=False); demo.register(app); app()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, "demo", "traffic", "--rate", "20", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(settings), text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if " s  " in line and "changes" in line:
                break
        process.send_signal(name)
        out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    document = json.loads(out)
    assert document["ok"] is True
    assert sum(document["result"]["done"].values()) > 0
    require_rules(settings)


def test_it_survives_a_restart_of_postgres(settings: Settings, own_postgres: stack.PostgresServer) -> None:
    from bilten_orchestration.migrations import runner

    settings = settings.model_copy(update={"postgres": own_postgres.settings()})
    runner.up(settings, store="postgres")
    load(settings, scale=0.02, today=datetime.now(UTC).date(), parts=())
    told: list[str] = []
    stop = threading.Event()
    reports: list[traffic.TrafficReport] = []
    runs = threading.Thread(
        target=lambda: reports.append(
            traffic.run(settings, rate_per_second=30, progress=told.append, stop=stop)
        )
    )
    runs.start()
    try:
        until(lambda: any("changes," in line for line in told), "traffic runs")
        own_postgres.kill()
        until(lambda: "PostgreSQL went away; reconnecting" in told, "the loss is told")
        own_postgres.start()
        until(lambda: "PostgreSQL is back" in told, "the return is told")
        bought = count(settings, TRACES["purchases"])
        until(lambda: count(settings, TRACES["purchases"]) > bought, "purchases go on")
    finally:
        stop.set()
        runs.join(timeout=60)
    assert reports, told[-3:]
    assert reports[0].reconnects >= 1
    assert reports[0].problems == ()
    require_rules(settings)


def test_it_survives_restarts_of_clickhouse_and_redis(
    settings: Settings, own_clickhouse: stack.ClickHouseServer, tmp_path: Path
) -> None:
    from bilten_orchestration.migrations import runner

    load(settings, scale=0.02, today=datetime.now(UTC).date(), parts=())
    own_redis, redis_settings = stack.start_redis(own_clickhouse.log.parents[1], f"redis-{tmp_path.name}")
    settings = settings.model_copy(update={"clickhouse": own_clickhouse.settings, "redis": redis_settings})
    runner.up(settings, store="clickhouse", anew=True)
    told: list[str] = []
    stop = threading.Event()
    reports: list[traffic.TrafficReport] = []
    runs = threading.Thread(
        target=lambda: reports.append(
            traffic.run(settings, rate_per_second=40, progress=told.append, stop=stop)
        )
    )
    runs.start()
    try:
        until(lambda: any("changes," in line for line in told), "traffic runs")
        own_clickhouse.kill()
        own_redis.kill()
        until(
            lambda: any(line.startswith("ClickHouse went away; clicks are kept") for line in told),
            "the loss is told",
        )
        until(
            lambda: any(line.startswith("Redis went away; its counters are lost") for line in told),
            "the loss is told",
        )
        bought = count(settings, TRACES["purchases"])
        until(lambda: count(settings, TRACES["purchases"]) > bought, "purchases go on")
        own_clickhouse.start()
        own_redis.start()
        until(lambda: {"ClickHouse is back", "Redis is back"} <= set(told), "the return is told")
    finally:
        stop.set()
        runs.join(timeout=60)
        own_redis.kill()
    assert reports, told[-3:]
    report = reports[0]
    assert report.problems == ()
    assert report.reconnects == 0
    assert report.counters_lost > 0
    assert report.clicks_lost == 0
    client = clickhouse.connect(own_clickhouse.settings)
    written = client.query("select count() from analytics.events").result_rows[0][0]
    client.close()
    assert 0.95 * report.clicks_written <= written <= report.clicks_written
    assert len([line for line in told if " went away; " in line]) == 2, "each is told once"


def test_clicks_that_clickhouse_never_takes_are_named(
    settings: Settings, own_clickhouse: stack.ClickHouseServer
) -> None:
    from bilten_orchestration.migrations import runner

    load(settings, scale=0.02, today=datetime.now(UTC).date(), parts=())
    settings = settings.model_copy(update={"clickhouse": own_clickhouse.settings})
    runner.up(settings, store="clickhouse", anew=True)

    def tell(text: str) -> None:
        if "changes," in text and own_clickhouse.process is not None:
            own_clickhouse.kill()

    report = traffic.run(settings, rate_per_second=40, seconds=4, progress=tell)
    assert report.clicks_lost > 0
    (problem,) = report.problems
    assert "ClickHouse did not take them" in problem.what
    assert str(report.clicks_lost) in problem.found


@pytest.mark.parametrize("store", ["postgres", "clickhouse", "redis"])
def test_a_store_that_is_away_at_the_start_is_named(settings: Settings, store: str) -> None:
    nobody = getattr(settings, store).model_copy(update={"port": ports.any_free()})
    with pytest.raises(StoreUnavailable, match=str(nobody.port)):
        traffic.run(settings.model_copy(update={store: nobody}), rate_per_second=1, seconds=1)


def test_nothing_to_sell_and_production_and_rates_are_refused(settings: Settings) -> None:
    with pytest.raises(Refused, match="nothing to sell"):
        traffic.run(settings, rate_per_second=1, seconds=1)
    with pytest.raises(Refused, match="production"):
        traffic.run(settings.model_copy(update={"environment": "production"}), rate_per_second=1, seconds=1)
    for rate in (0, -1, float("nan"), 1e9):
        with pytest.raises(UsageError):
            traffic.run(settings, rate_per_second=rate, seconds=1)
