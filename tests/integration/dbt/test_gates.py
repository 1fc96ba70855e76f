"""A wrong day never replaces a right one, and missing evidence is no evidence."""

from __future__ import annotations

from decimal import Decimal

from clickhouse_connect.driver.client import Client

from bilten_orchestration.metrics import evaluations
from bilten_orchestration.metrics import verdicts as read
from tests.integration.dbt.project import SALES, SALES_FROM_NOTHING, Project
from tests.integration.dbt.scenario import Scenario, days_between, uid

DAYS = days_between("2026-03-01", "2026-03-30")
MART = "fct_event_sales_daily"


def verdicts(client: Client, run: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for verdict, day in client.query(
        "select verdict, toString(day) from analytics.mart_days final where run_id = {run:String} order by"
        " day",
        parameters={"run": run},
    ).result_rows:
        found.setdefault(verdict, []).append(day)
    return found


def published(client: Client) -> dict[str, Decimal]:
    return dict(
        client.query(f"select toString(metric_date), gross_sales from marts.{MART} order by 1").result_rows
    )


def test_one_bad_day_in_thirty_is_refused_and_named(project: Project, client: Client) -> None:
    world = Scenario()
    world.event("Show")
    for number, day in enumerate(DAYS):
        world.payment(day, "Show", f"{day} 12:00", f"{100 + number}.00")
    world.apply(client, controls=DAYS)
    # one cent more reaches the raw copy than PostgreSQL knew of
    bad = "2026-03-15"
    client.command(
        "insert into bilten_raw.payments_payments select * replace (amount + 0.01 as amount, 2 as version)"
        " from bilten_raw.payments_payments final where id = {id:UUID}",
        parameters={"id": uid(bad)},
    )

    first = project.build(*SALES_FROM_NOTHING, build_id="planted", days=DAYS)
    others = [day for day in DAYS if day != bad]
    assert first.exit_code == 1
    assert first.statuses["event_sales_no_day_refused"] == "fail"
    assert f"{MART} {bad} refused: failed event_sales_equal_control_totals (2)" in " ".join(
        first.output.split()
    )
    assert f"event_sales_no_day_refused: {bad} | refused" in first.output
    assert verdicts(client, "planted") == {"swapped": others, "refused": [bad]}
    assert list(published(client)) == others
    assert client.query(
        "select JSONExtractString(row, 'metric'), JSONExtractString(row, 'metric_date'),"
        "  JSONExtractFloat(row, 'expected'), JSONExtractFloat(row, 'found') from ("
        " select arrayJoin(JSONExtractArrayRaw(sample)) as row from analytics.mart_verdicts final"
        " where run_id = 'planted' and failures > 0) order by 1"
    ).result_rows == [("gross_sales", bad, 114.0, 114.01), ("net_revenue", bad, 114.0, 114.01)]
    assert client.query(
        "select count(), uniqExact(gate), uniqExact(metric_date) from analytics.mart_verdicts final where"
        " run_id = 'planted'"
    ).result_rows == [(150, 5, 30)]

    # the copy is mended; now PostgreSQL's side is off for a day that was published, and one has no controls
    world.change("payments_payments", bad, updated_at=world.rows["payments_payments"][bad]["captured_at"])
    world.batch = 2
    world.apply(client)
    client.command(
        "insert into analytics.control_totals select metric_date, event_id, currency, metric, value +"
        " 0.001, 3"
        " from analytics.control_totals final where metric_date = '2026-03-20' and batch = 1"
    )
    client.command("insert into analytics.control_days values ('2026-03-20', 3, 3, now64(6))")
    client.command("delete from analytics.control_days where metric_date = '2026-03-21'")
    before = published(client)
    second = project.build(*SALES, build_id="controls", days=DAYS)
    assert second.exit_code == 1
    assert verdicts(client, "controls") == {
        "swapped": [bad],
        "refused": ["2026-03-20", "2026-03-21"],
        "unchanged": [day for day in DAYS if day not in (bad, "2026-03-20", "2026-03-21")],
    }
    assert published(client) == {**before, bad: Decimal("114.00")}
    # what a refused day still shows is what was published before, and mart_days says so
    assert client.query(
        "select toString(day), batch, rows from analytics.mart_days final where verdict = 'refused' order"
        " by day"
    ).result_rows == [("2026-03-20", 1, 1), ("2026-03-21", 1, 1)]

    # a gate that did not run is no gate that passed
    world.write_controls(client, DAYS)
    third = project.build(*SALES, "--exclude", "event_sales_not_negative", build_id="unjudged", days=DAYS[:2])
    assert third.exit_code == 1
    assert "no verdict of event_sales_not_negative" in " ".join(third.output.split())
    assert verdicts(client, "unjudged") == {"refused": DAYS[:2]}
    assert published(client) == {**before, bad: Decimal("114.00")}

    samples_stay_bounded(project, client)


def samples_stay_bounded(project: Project, client: Client) -> None:
    """Many rows fail on many days: all are counted, some are kept, fewer are shown."""
    wrong = 45
    client.command(
        "insert into analytics.control_totals select day, generateUUIDv4(), 'USD', 'gross_sales', 1, 9"
        " from (select toDate32(arrayJoin({days:Array(String)})) as day) as days"
        f" cross join numbers({wrong}) as cells",
        parameters={"days": DAYS},
    )
    client.command(
        "insert into analytics.control_days select toDate32(arrayJoin({days:Array(String)})), 9,"
        f" {wrong}, now64(6)",
        parameters={"days": DAYS},
    )
    outcome = project.build(*SALES, build_id="many", days=DAYS)
    assert outcome.exit_code == 1
    assert verdicts(client, "many") == {"refused": DAYS}
    # kept: at most 20 of a day's rows
    kept = client.query(
        "select failures, JSONLength(sample) from analytics.mart_verdicts final where run_id = 'many'"
        " and gate = 'event_sales_equal_control_totals'"
    ).result_rows
    assert len(kept) == len(DAYS)
    assert all(failures >= wrong for failures, _ in kept)
    assert {rows for _, rows in kept} == {20}
    # shown in the metadata of the check: at most 5 of them
    judged = [found for found in read.judged(client, "many") if found.gate.endswith("control_totals")]
    assert len(judged) == len(DAYS)
    for found in judged:
        passed, _, metadata = evaluations._judged(None, found)
        assert not passed
        assert metadata["failing_rows"] == found.failures >= wrong
        assert len(metadata["sample"].records) == 5
    # printed by a test with show_rows: at most 10
    printed = [line for line in outcome.output.splitlines() if "event_sales_no_day_refused: 20" in line]
    assert len(printed) == 10
