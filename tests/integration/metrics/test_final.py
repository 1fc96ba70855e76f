"""When a day is final: it is over in every zone, and whoever wrote in its time has ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import uuid4

import dagster as dg
import pytest

from bilten_orchestration.definitions import assemble
from bilten_orchestration.ingestion import source
from bilten_orchestration.metrics.build import build, build_dirty
from bilten_orchestration.metrics.checks import FRESH
from bilten_orchestration.metrics.days import DAY
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse
from tests.integration.ingestion.shop import owner
from tests.integration.metrics.world import FIRST, World, moment

# face.py accepts them, but pytest puts filters of its own above
pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")


@contextmanager
def prepared(settings: Settings) -> Iterator[str]:
    """A transaction that wrote something no metric shows, prepared; rolled back if nobody ended it."""
    gid = f"final-{uuid4()}"
    with owner(settings) as connection:
        connection.execute("begin")
        connection.execute("insert into system.heartbeats (source) values (%s)", (gid,))
        connection.execute(f"prepare transaction '{gid}'")  # type: ignore[arg-type]
        try:
            yield gid
        finally:
            found = connection.execute("select 1 from pg_prepared_xacts where gid = %s", (gid,)).fetchone()
            if found:
                connection.execute(f"rollback prepared '{gid}'")  # type: ignore[arg-type]


def check(settings: Settings) -> str:
    """What the check says of the newest closed day, which nobody has built here."""
    job = assemble(settings).get_repository_def().get_job("data_checks")
    one = dg.AssetCheckKey(dg.AssetKey(["marts", "fct_event_sales_daily"]), FRESH)
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.get_subset(asset_selection=set(), asset_check_selection={one}).execute_in_process(
            instance=instance
        )
    [told] = result.get_asset_check_evaluations()
    assert not told.passed
    return told.description or ""


def finals(settings: Settings) -> set[tuple[int, bool]]:
    client = clickhouse.connect(settings.clickhouse)
    try:
        rows = client.query("select batch, is_final from analytics.mart_days final").result_rows
    finally:
        client.close()
    return {(int(batch), bool(final)) for batch, final in rows}


def test_a_day_stays_provisional_while_a_transaction_of_its_time_is_open(world: World) -> None:
    settings = world.settings
    told: list[str] = []
    with prepared(settings) as gid:
        world.trade(FIRST, FIRST)
        # the first batch knows of no moment at which nothing was open
        first = world.sync(progress=told.append)
        assert any(f"prepared transaction {gid}, since " in text for text in told)
        report = build(settings, FIRST, FIRST, refresh_whole=False)
        assert report.problems == ()
        assert report.unsettled_days == (FIRST,)
        assert report.settled_until == datetime(1970, 1, 1, tzinfo=UTC)
        assert finals(settings) == {(first.batch, False)}
        # a batch more changes nothing, however late it is
        world.sync()
        assert build_dirty(settings, first=FIRST, last=FIRST) is None

        told_by_check = check(settings)
        assert f"Transactions that are open now: prepared transaction {gid}, since " in told_by_check
        assert "Next: end the transaction that was open at " in told_by_check

        with owner(settings) as connection:
            connection.execute(f"commit prepared '{gid}'")  # type: ignore[arg-type]
    # no fact of the day has changed: that it is settled is reason enough
    settled = world.sync()
    report = build_dirty(settings, first=FIRST, last=FIRST)
    assert report is not None
    assert report.unsettled_days == ()
    assert settled.as_of >= report.settled_until > settled.as_of.astimezone(UTC) - DAY
    assert finals(settings) == {(settled.batch, True)}
    assert build_dirty(settings, first=FIRST, last=FIRST) is None


def test_a_transaction_that_began_after_a_batch_holds_no_day_of_before_open(world: World) -> None:
    """On a busy server some transaction is always open: the batches before it are what settles."""
    settings = world.settings
    world.trade(FIRST, FIRST)
    before = world.sync()
    with prepared(settings):
        world.kolkata.order(moment(FIRST, 10))
        held = world.sync()
        report = build(settings, FIRST, FIRST, refresh_whole=False)
        assert report.batch == held.batch
        assert report.unsettled_days == ()
        assert report.settled_until <= before.as_of.astimezone(UTC)
        assert finals(settings) == {(held.batch, True)}


def test_short_transactions_are_waited_for(settings: Settings) -> None:
    """A fence is reached as soon as what was open has ended, not when nothing is open."""
    with owner(settings) as first, owner(settings) as second, owner(settings) as reader:
        first.execute("begin")
        first.execute("insert into system.heartbeats (source) values ('first')")
        untouched = source.fence(reader, 0)
        second.execute("begin")
        second.execute("insert into system.heartbeats (source) values ('second')")
        first.execute("rollback")
        mark = reader.execute("select pg_snapshot_xmin(pg_current_snapshot())::text").fetchone()
        assert mark is not None
        assert int(mark[0]) >= untouched.xid
        held = source.fence(reader, 0.05)
        assert int(mark[0]) < held.xid
        assert "pid " in source.holders(reader)
        second.execute("rollback")
    with owner(settings) as reader:
        assert source.holders(reader) == "none"
