"""A difference of one cent, one row too few and one too many: found, named, told by exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta

from bilten_orchestration.ingestion.sync import reconcile, sync
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse
from tests.integration.ingestion.conftest import Ask
from tests.integration.ingestion.shop import NOON, Shop


def _plant(settings: Settings, *statements: str) -> None:
    client = clickhouse.connect(settings.clickhouse)
    for statement in statements:
        client.command(statement, settings={"mutations_sync": 2})
    client.close()


def test_one_cent_one_row_missing_and_one_too_many(
    settings: Settings,
    shop: Shop,
    environment: Callable[[Settings], dict[str, str]],
    equal: Callable[[], None],
) -> None:
    orders = [shop.order(NOON + timedelta(days=n)) for n in range(30)]
    sync(settings)
    equal()
    cent, missing = orders[3].payment, orders[7].payment
    _plant(
        settings,
        f"alter table bilten_raw.payments_payments update amount = amount + 0.01 where id = '{cent}'",
        f"alter table bilten_raw.payments_payments delete where id = '{missing}'",
        "insert into bilten_raw.payments_payments select * replace (generateUUIDv4() as id, "
        "toDate32('2020-05-05') as captured_date) from (select * from bilten_raw.payments_payments "
        f"where id = '{orders[0].payment}')",
    )
    report = reconcile(settings)
    assert not report.equal
    (payments,) = [table for table in report.tables if not table.equal]
    assert (payments.table, payments.missing, payments.extra, payments.changed) == (
        "payments.payments",
        1,
        1,
        1,
    )
    assert payments.sums["amount"] == ("330.000", "330.010")
    states = {row.state: row for row in report.sample}
    assert states["changed"].key == str(cent)
    assert states["changed"].columns == ("amount",)
    assert states["missing"].key == str(missing)
    assert set(report.days) == {date(2026, 3, 13), date(2026, 3, 17), date(2020, 5, 5)}

    child = subprocess.run(
        [sys.executable, "-m", "bilten_orchestration.cli.main", "sync", "--reconcile", "--json"],
        env=environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 1, child.stderr
    document = json.loads(child.stdout)
    assert document["ok"] is False
    assert document["problems"][0]["found"].endswith("1 missing, 1 too many, 1 changed")

    repaired = sync(settings, full=True, reconcile=True)
    assert repaired.kind == "full"
    assert repaired.reconciliation is not None
    assert repaired.reconciliation.equal
    assert repaired.deletes == {"payments.payments": 1}
    assert set(repaired.touched_days) == set(report.days)


def test_values_that_both_sides_write_differently_are_equal(
    settings: Settings, shop: Shop, ask: Ask, equal: Callable[[], None]
) -> None:
    run = shop.connection.execute
    run(
        "insert into events.venues (name, address, city, country, latitude, longitude, amenities, "
        "created_at) values "
        "(%s, %s, '', 'é漢', 1.100000, -0.5, %s, 'infinity')",
        ("tab\there", "a\\Nb \\N 'q' \"d\"\r\n", ["", "'", "\\", "\t\n", "a','b", "\x1f"]),
    )
    run(
        "insert into events.venues (name, address, city, country, deleted_at) values ('\\N', '', 'x', 'y', "
        "'-infinity')"
    )
    run("update users.organizations set description = '', website = null")
    run("update events.events set metadata = %s", ('{"b": [1.10, null, "x\\ny"], "a": {"ü": true}}',))
    run(
        "insert into financial.exchange_rates values ('1970-01-01', 'EUR', 'KWD', 0.0000000001), "
        "('2299-12-31', 'EUR', 'JPY', 9999999999.9999999999)"
    )
    sync(settings)
    assert ask("select name, created_at from bilten_raw.events_venues final where name like 'tab%'") == [
        ("tab\there", ask("select toDateTime64('2299-12-30 00:00:00', 6, 'UTC')")[0][0])
    ]
    assert ask("select name from bilten_raw.events_venues final where name = '\\\\N'") == [("\\N",)]
    equal()


def test_no_address_reaches_clickhouse(settings: Settings, shop: Shop, ask: Ask) -> None:
    planted = "planted.person@secret-mail.example"
    run = shop.connection.execute
    run(
        "update users.users set email = %s, first_name = %s, last_name = %s, password_hash = %s, phone = "
        "left(%s, 20), "
        "profile_data = jsonb_build_object('mail', %s::text), preferences = jsonb_build_object('mail', "
        "%s::text) "
        "where id = %s",
        (*[planted] * 7, shop.buyer),
    )
    order = shop.order()
    run("update payments.payments set gateway_response = jsonb_build_object('mail', %s::text)", (planted,))
    sync(settings)
    shop.set("tickets.tickets", order.tickets[0], status="cancelled", cancelled_at=NOON)
    sync(settings)
    columns = ask(
        "select database, table, name from system.columns where database in ('bilten_raw', 'bilten_stage') "
        "and type like '%String%'"
    )
    assert len(columns) > 50
    for database, table, name in columns:
        found = ask(
            f"select count() from {database}.{table} where toString({name}) like '%secret-mail%' "
            f"or toString({name}) like '%planted.person%'"
        )
        assert found == [(0,)], (database, table, name)
