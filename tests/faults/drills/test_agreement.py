"""The stores of one platform against each other: all drills by command, and disagreements that were planted.

PostgreSQL is restored to the moment of the newest batch, synced into the restored ClickHouse, and the marts
are built anew; what is compared are days that are final. In the order of their damage: the last test leaves
the platform without a payment.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from bilten_orchestration.backups.create import create
from bilten_orchestration.drills.report import DrillReport, Proof
from bilten_orchestration.drills.run import run
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from tests.faults.drills.killed import kill, next_one_cleans_up
from tests.integration.backups.command import bilten, document
from tests.integration.metrics.world import later
from tests.integration.recovery.conftest import FIRST, Platform, publish
from tests.processes import listening, living
from tests.waiting import until

pytestmark = pytest.mark.faults
DAYS, MARTS = 4, 5
AS_LIVE = "marts are those of the live server"
AGREED = "marts built from the restored PostgreSQL are the restored and the live ones"
SALES = "fct_event_sales_daily"


@pytest.fixture(scope="module")
def published(platform: Platform, parsed_project: Path) -> Platform:
    """With marts, backups of every store behind them, and the WAL of their batch."""
    # the shop of these tests sells without counting
    platform.execute(
        "update tickets.ticket_types y set sold = (select count(*) from tickets.tickets t"
        " where t.ticket_type_id = y.id and t.status in ('active', 'checked_in'))"
    )
    platform.world.sync()
    publish(platform, parsed_project)
    create(platform.settings, "postgres", "logical")
    create(platform.settings, "clickhouse", None)
    create(platform.settings, "redis", None)
    platform.shipped()
    return platform


def _drilled(platform: Platform) -> tuple[DrillReport, Proof, Proof]:
    """Whatever becomes of it, the live marts stay as they were found."""
    before = platform.marts()
    (report,) = run(platform.settings, "clickhouse")
    assert platform.marts() == before
    assert not (platform.settings.home / "drill-clickhouse").exists()
    proofs = {proof.name: proof for proof in report.proofs}
    return report, proofs[AS_LIVE], proofs[AGREED]


def test_drills_of_all_stores_pass(
    published: Platform, environment: Callable[[Settings], dict[str, str]]
) -> None:
    ran = bilten(published, environment, "drill", "run", "all", "--json", timeout_seconds=1800)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = document(ran)
    assert found["problems"] == []
    drills = found["result"]["drills"]
    assert [(each["store"], each["way"]) for each in drills] == [
        ("postgres", "exact"),
        ("postgres", "moment"),
        ("clickhouse", "engine"),
        ("redis", "server"),
    ]
    assert all(each["ok"] and each["rto_seconds"] is not None for each in drills)
    by_name = {proof["name"]: proof for proof in drills[2]["proofs"]}
    agreed = by_name[AGREED]
    assert agreed["ok"], agreed
    assert not agreed["warns"]
    assert drills[2]["figures"]["agreed_mart_days"] == DAYS * MARTS
    assert by_name[AS_LIVE]["ok"]


@pytest.mark.parametrize(
    "at",
    [
        "phase restore",
        "call backups.clickhouse.restore:_restored",
        "said starting, replaying",
        "call ingestion.sync:sync",
        "said [",
        "call drills.attestation:append",
    ],
)
def test_a_kill_leaves_nothing_behind_the_next_one(published: Platform, at: str) -> None:
    """With its engine, with a restored PostgreSQL beside it, and with dbt at work on both. The engine listens
    on a port of its own, of this machine alone, and on no other's."""
    settings = published.settings
    live, rows = published.marts(), published.content()
    before = published.ask("select slot_name, active from pg_replication_slots order by 1")
    known = set(psutil.pids())
    killed = kill(settings, "clickhouse", "engine", at)
    assert all(
        host == "127.0.0.1" and port not in (settings.clickhouse.port, settings.postgres.port)
        for host, port in listening(killed.place)
    )
    next_one_cleans_up(killed)
    until(lambda: not _of_drills(settings, known), "dbt to end")
    assert published.ask("select slot_name, active from pg_replication_slots order by 1") == before
    assert published.ask("select 1 from pg_prepared_xacts") == []
    assert (published.marts(), published.content()) == (live, rows)


def _of_drills(settings: Settings, known: set[int]) -> list[psutil.Process]:
    """Processes that were not there before, and have to do with the state directory of this platform."""

    def concerned(process: psutil.Process) -> bool:
        about = (*process.cmdline(), *process.environ().values(), process.cwd())
        return process.pid not in known and any(f"{settings.home}/drill-" in word for word in about)

    return living(concerned)


def test_a_row_of_a_live_mart_was_altered(published: Platform) -> None:
    day = later(FIRST, 1)
    _alter(published, day.isoformat(), "gross_sales + 1")
    try:
        report, as_live, agreed = _drilled(published)
    finally:
        _alter(published, day.isoformat(), "gross_sales - 1")
    assert not report.ok
    for proof in (as_live, agreed):
        assert (proof.ok, proof.warns) == (False, False)
        assert f"differ: {SALES} of {day}" in proof.found
    assert agreed.found.startswith(f"1 of {DAYS * MARTS} ")
    assert {problem.what for problem in report.problems} == {
        f"not proven: {AS_LIVE}",
        f"not proven: {AGREED}",
    }
    assert all(problem.next for problem in report.problems)


def _alter(platform: Platform, day: str, value: str) -> None:
    with closing(clickhouse.connect(platform.settings.clickhouse)) as client:
        client.command(
            f"alter table marts.{SALES} update gross_sales = {value} where metric_date = '{day}'"
            " settings mutations_sync = 2"
        )


def test_postgresql_lost_a_payment_without_a_trace(published: Platform) -> None:
    """No tombstone, no mark: no batch tells of it, both ClickHouse have it, and only a rebuild finds it."""
    day = later(FIRST, 2)
    payment = published.world.orders[day].payment
    with postgres.connect(published.settings.postgres, autocommit=True) as connection:
        before = connection.execute("select count(*) from system.deleted_rows").fetchone()
    assert published.superuser is not None
    with postgres.connect(published.superuser) as connection:
        connection.execute("set session_replication_role = replica")
        for table, column in (
            ("payments.payment_items", "payment_id"),
            ("tickets.tickets", "payment_id"),
            ("payments.payments", "id"),
        ):
            connection.execute(f"delete from {table} where {column} = %s", (payment,))  # type: ignore[arg-type]
    assert published.ask("select count(*) from system.deleted_rows") == [before]
    published.world.sync()
    published.shipped()
    report, as_live, agreed = _drilled(published)
    assert not report.ok
    assert as_live.ok, as_live
    assert (agreed.ok, agreed.warns) == (False, False)
    assert f"{SALES} of {day}" in agreed.found
    assert [problem.what for problem in report.problems] == [f"not proven: {AGREED}"]
