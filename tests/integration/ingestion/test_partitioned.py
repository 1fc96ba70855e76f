"""Should a synced table be partitioned: a month that leaves is no deletion, a row that is deleted is one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from bilten_orchestration.ingestion.schema import Bounds
from bilten_orchestration.ingestion.sync import reconcile, sync
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.postgres.adoption.forward import adopt
from bilten_orchestration.settings import Settings
from tests.integration.ingestion.conftest import Ask
from tests.integration.ingestion.shop import Shop

TABLE = PartitionedTable("financial.payouts", retention=12)


def test_the_condition_names_what_is_attached() -> None:
    assert Bounds("created_at", ()).in_clickhouse == "0"
    assert Bounds("created_at", ((None, None),)).in_clickhouse == "((1))"
    low, high = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    assert Bounds("created_at", ((low, high), (high, None))).in_clickhouse == (
        "((created_at >= toDateTime64('2026-01-01 00:00:00', 6, 'UTC')"
        " and created_at < toDateTime64('2026-02-01 00:00:00', 6, 'UTC'))"
        " or (created_at >= toDateTime64('2026-02-01 00:00:00', 6, 'UTC')))"
    )


def test_an_archived_month_is_never_taken_for_deletions(
    settings: Settings, shop: Shop, ask: Ask, equal: Callable[[], None]
) -> None:
    connection = shop.connection
    connection.execute(
        """
        alter table financial.payouts drop constraint payouts_pkey;
        alter table financial.payouts add primary key (id, created_at);
        insert into financial.payouts
            (organization_id, amount, currency, period_start, period_end, created_at)
        select (select id from users.organizations limit 1), n, 'EUR', '2026-01-01', '2026-01-31',
               timestamptz '2026-01-15 00:00+00' + n % 3 * interval '1 month'
        from generate_series(1, 30) n
        """
    )
    assert adopt(settings, TABLE, execute=True).executed
    # the first partition into months, as time would have made them
    connection.execute(
        """
        alter table financial.payouts detach partition financial.payouts_first;
        create table financial.payouts_p202601 partition of financial.payouts
            for values from ('2026-01-01+00') to ('2026-02-01+00');
        create table financial.payouts_later partition of financial.payouts
            for values from ('2026-02-01+00') to ('2126-01-01+00');
        insert into financial.payouts select * from financial.payouts_first;
        drop table financial.payouts_first;
        """
    )
    sync(settings)
    equal()
    count = "select count() from bilten_raw.financial_payouts final"
    assert ask(count) == [(30,)]

    connection.execute("alter table financial.payouts detach partition financial.payouts_p202601")
    for full in (False, True):
        sync(settings, full=full)
        assert ask(count) == [(30,)]
        equal()
    connection.execute("delete from financial.payouts where amount = 1")
    sync(settings)
    assert ask(count) == [(29,)]
    # lost without a trace, in a month that is attached: the sweep finds it
    connection.execute("delete from financial.payouts where amount = 2")
    connection.execute("delete from system.deleted_rows")
    (differing,) = [each for each in reconcile(settings).tables if not each.equal]
    assert (differing.table, differing.extra) == ("financial.payouts", 1)
    sync(settings, full=True)
    assert ask(count) == [(28,)]
    equal()
    # and it comes back as it was
    connection.execute(
        "alter table financial.payouts attach partition financial.payouts_p202601"
        " for values from ('2026-01-01+00') to ('2026-02-01+00')"
    )
    equal()
