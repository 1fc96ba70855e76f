"""Tables of one run: the rows of their views for its days, made in memory that follows the days."""

from __future__ import annotations

import uuid

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.integration.dbt.project import Project

DAYS = ["2025-06-14", "2025-06-15"]
FUNNEL_DAYS = ["2025-06-16", "2025-06-17"]
#: build table, its view, the days it holds
BUILT = {
    "int_postings": [*DAYS, *FUNNEL_DAYS],
    "int_ticket_movements": DAYS,
    "int_payment_items": DAYS,
}
PAYMENTS_BEFORE, PAYMENTS_AFTER = 40_000, 160_000
#: Blocks on their way through a query differ by some MiB; a join that holds the history grows by 20 and more.
SPREAD_BYTES = 8 << 20
#: Enough for these days, in any history; the whole of this history takes 35 MiB and more.
LIMIT_BYTES = 24 << 20
#: As dbt_project/profiles.yml sets them.
SETTINGS = {"join_use_nulls": 0, "do_not_merge_across_partitions_select_final": 1}


def identity(kind: str, number: str) -> str:
    return f"reinterpret(sipHash128('{kind}', toUInt64({number})), 'UUID')"


def chance(kind: str, of: int) -> str:
    return f"cityHash64('{kind}', number) % {of}"


def later(kind: str, days: int, *, when: str) -> str:
    """A moment up to that many days after the purchase, or null."""
    return f"if({when}, bought + toIntervalHour({chance(kind, days * 24)}), null)"


def write_history(client: Client, first: int, last: int) -> None:
    """Payments by number, over 800 days, with two tickets each and what may become of these."""
    numbers = (
        "(select number, toDateTime64('2024-01-01 00:00:00', 6, 'UTC')"
        f" + toIntervalHour({chance('day', 19200)}) as bought from numbers({first}, {last - first}))"
    )
    tickets = (
        "(select pair.1 as ticket, intDiv(pair.1, 2) as payment, pair.1 as number, pair.2 as bought from"
        f" (select arrayJoin([(number * 2, bought), (number * 2 + 1, bought)]) as pair from {numbers}))"
    )
    captured = f"if({chance('captured', 20)} > 0, toNullable(bought), null)"
    client.command(
        "insert into bilten_raw.payments_payments (id, user_id, event_id, amount, fee_amount, tax_amount,"
        " currency, captured_at, captured_date, deleted_at, version)"
        f" select {identity('payment', 'number')}, {identity('user', 'number % 1000')},"
        f" {identity('event', 'number % 100')}, 30, 2, 1, ['EUR', 'USD', 'JPY'][number % 3 + 1],"
        f" {captured}, toDate32({captured}), if({chance('gone', 50)} = 0, toNullable(bought), null), 1"
        f" from {numbers}"
    )
    # of every ten tickets one has no payment, and of these some are comps and some came from another ticket
    checked_in, cancelled = (
        later("in", 90, when=f"{chance('came', 10)} < 6"),
        later("off", 40, when=f"{chance('off', 12)} = 0"),
    )
    client.command(
        "insert into bilten_raw.tickets_tickets (id, ticket_type_id, event_id, payment_id, is_complimentary,"
        " transferred_from, purchased_at, purchased_date, checked_in_at, checked_in_date, cancelled_at,"
        " cancelled_date, version)"
        f" select {identity('ticket', 'ticket')}, {identity('type', 'payment % 300')},"
        f" {identity('event', 'payment % 100')},"
        f" if(ticket % 10 = 9, null, toNullable({identity('payment', 'payment')})),"
        f" ticket % 10 = 9 and {chance('comp', 3)} = 0,"
        f" if(ticket % 30 = 9, toNullable({identity('ticket', 'ticket - 1')}), null),"
        " bought, toDate32(bought),"
        f" {checked_in} as scanned_at, toDate32(scanned_at), {cancelled} as ended_at, toDate32(ended_at), 1"
        f" from {tickets}"
    )
    client.command(
        "insert into bilten_raw.payments_payment_items (id, payment_id, ticket_id, item_type, amount,"
        f" version) select {identity('item', 'ticket')}, {identity('payment', 'payment')},"
        f" if(ticket % 7 = 0, null, toNullable({identity('ticket', 'ticket')})),"
        f" if(ticket % 7 = 0, 'addon', 'ticket'), 15, 1 from {tickets}"
    )
    refunded, reversed_ = (
        later("refund", 60, when=f"{chance('posted', 10)} > 0"),
        later("back", 90, when=f"{chance('failed', 8)} = 0"),
    )
    client.command(
        "insert into bilten_raw.payments_refunds (id, payment_id, ticket_id, amount, fee_amount, tax_amount,"
        " refunded_at, refunded_date, reversed_at, reversed_date, version)"
        f" select {identity('refund', 'ticket')}, {identity('payment', 'payment')},"
        f" if({chance('whole', 4)} = 0, null, toNullable({identity('ticket', 'ticket')})), 15, 1, 0,"
        f" {refunded} as posted_at, toDate32(posted_at), {reversed_} as returned_at, toDate32(returned_at), 1"
        f" from {tickets} where {chance('refunded', 15)} = 0"
    )
    client.command(
        "insert into bilten_raw.payments_chargebacks (id, payment_id, amount, dispute_fee, charged_back_at,"
        " charged_back_date, reversed_at, reversed_date, version)"
        f" select {identity('chargeback', 'number')}, {identity('payment', 'number')}, 30, 15,"
        f" assumeNotNull({later('dispute', 60, when='1')}) as taken_at, toDate32(taken_at),"
        f" {later('won', 90, when=chance('won', 3) + ' = 0')} as returned_at, toDate32(returned_at), 1"
        f" from {numbers} where {chance('disputed', 50)} = 0"
    )
    for (table,) in client.query(
        "select name from system.tables where database = 'bilten_raw' and total_rows > 0"
    ).result_rows:
        # as many parts before and after: FINAL holds blocks of each
        client.command(f"optimize table bilten_raw.{table} final")


def content(client: Client, relation: str, days: list[str]) -> tuple[int, int]:
    found = client.query(
        f"select count(), sum(cityHash64(*)) from {relation} where metric_date in {tuple(days)}"
    )
    return found.first_row  # type: ignore[return-value]


def memory_bytes(client: Client, select: str) -> int:
    """Peak of the statement; the least of two, as a merge may run beside one of them."""
    ids = [str(uuid.uuid4()) for _ in range(2)]
    for query_id in ids:
        client.query(
            f"select sum(cityHash64(*)) from ({select})", settings={**SETTINGS, "query_id": query_id}
        )
    client.command("system flush logs")
    peak = client.query(
        "select min(memory_usage), count() from system.query_log"
        " where type = 'QueryFinish' and query_id in {ids:Array(String)}",
        parameters={"ids": ids},
    ).first_row
    assert peak[1] == len(ids)
    return int(peak[0])


@pytest.mark.faults
def test_tables_of_a_run_hold_the_rows_of_their_views_in_memory_that_follows_the_days(
    project: Project, client: Client
) -> None:
    write_history(client, 0, PAYMENTS_BEFORE)
    outcome = project.build(
        "run", "--select", *(f"+{name}__build +{name}" for name in BUILT), build_id="run", days=DAYS
    )
    assert outcome.exit_code == 0, outcome.output
    for name, days in BUILT.items():
        built = content(client, f"intermediate.{name}__build_run", days)
        assert built[0] > 100, name
        assert built == content(client, f"intermediate.{name}", days), name
        assert client.command(f"select count() from intermediate.{name}__build_run") == built[0], name
    for name, column, kinds in (
        ("int_postings", "posting_type", 5),
        ("int_ticket_movements", "movement_type", 4),
    ):
        found = client.query(f"select distinct {column} from intermediate.{name}__build_run").result_rows
        assert len(found) == kinds, found

    compiled = project.target / "compiled" / "bilten" / "models" / "run"
    selects = {name: (compiled / f"{name}__build.sql").read_text() for name in BUILT}
    before = {name: memory_bytes(client, select) for name, select in selects.items()}
    write_history(client, PAYMENTS_BEFORE, PAYMENTS_AFTER)
    grown = {name: memory_bytes(client, select) - before[name] for name, select in selects.items()}
    assert {name: more for name, more in grown.items() if more > SPREAD_BYTES} == {}

    # a condition on the outside of the view does not do
    limited = {**SETTINGS, "max_memory_usage": LIMIT_BYTES}
    for name, days in BUILT.items():
        client.query(f"select sum(cityHash64(*)) from ({selects[name]})", settings=limited)
        with pytest.raises(DatabaseError, match="MEMORY_LIMIT_EXCEEDED"):
            client.query(
                f"select sum(cityHash64(*)) from intermediate.{name} where metric_date in {tuple(days)}",
                settings=limited,
            )
