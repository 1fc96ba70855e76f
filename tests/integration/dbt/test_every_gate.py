"""Each gate of the project stops something: a fault planted between build and gates, and who sees it.

One world of equal days, one fault per day. A fault says which gates see it, with how many failing rows; all
other verdicts of all days must be 0. A gate without a fault that no other gate of its mart sees would not be
missed, so that each has to have one.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

from clickhouse_connect.driver.client import Client

from bilten_orchestration.metrics import manifest
from tests.integration.dbt import clicks
from tests.integration.dbt.clicks import Click
from tests.integration.dbt.gate_faults import FAULTS, SALES, Fault
from tests.integration.dbt.project import Project
from tests.integration.dbt.scenario import Scenario

RUN = "planted"
FIRST = date(2025, 3, 1)
DAYS = [(FIRST + timedelta(days=number)).isoformat() for number in range(len(FAULTS) + 2)]
#: Day by fault; the first and the last day have none.
DAY_OF = dict(zip(FAULTS, DAYS[1:-1], strict=True))


def gates(parsed: Path) -> dict[str, tuple[str, ...]]:
    """The gates of each mart, as the project declares them."""
    found = manifest.marts(manifest.read(parsed.parent / manifest.MANIFEST))
    return {mart.name: mart.gates for mart in found}


def world(days: Iterable[str]) -> tuple[Scenario, list[Click]]:
    """Every metric of every mart is other than zero, every day."""
    orders = Scenario()
    orders.organization("Hall")
    for event in ("Show", "Other"):
        orders.event(event, organization="Hall")
        orders.ticket_type(f"{event} seat" if event == "Other" else "Seat", event)
    orders.ticket_type("VIP", "Show", price="80", quantity=20)
    seen = []
    for day in days:
        buyer, noon = f"buyer {day}", f"{day} 12:00"
        seats = [f"{day} {letter}" for letter in "abc"]
        orders.payment(
            f"{day} seats",
            "Show",
            noon,
            "33",
            fee="2",
            tax="1",
            user=buyer,
            tickets=seats,
            ticket_type="Seat",
        )
        orders.payment(
            f"{day} vip", "Show", noon, "85", fee="5", user=buyer, tickets=[f"{day} v"], ticket_type="VIP"
        )
        orders.payment(f"{day} disputed", "Show", noon, "40", user=buyer)
        orders.ticket(f"{day} comp", "Show", "Seat", purchased=noon, comp=True)
        orders.check_in(seats[0], f"{day} 19:00")
        orders.refund(
            f"{day} refund", f"{day} seats", f"{day} 13:00", "11", fee="1", tax="0.5", ticket=seats[1]
        )
        orders.refund(f"{day} failed", f"{day} vip", f"{day} 13:00", "5")
        orders.reverse("payments_refunds", f"{day} failed", f"{day} 14:00")
        for name in ("lost", "won"):
            orders.chargeback(f"{day} {name}", f"{day} disputed", f"{day} 15:00", "20", dispute_fee="15")
        orders.reverse("payments_chargebacks", f"{day} won", f"{day} 16:00")
        seen += [
            Click(f"browser {day}", "Show", f"{day} 10:00"),
            Click(f"browser {day}", "Show", f"{day} 10:05", "checkout_started", user=buyer),
            Click(f"looker {day}", "Show", f"{day} 11:00"),
        ]
    return orders, seen


def plant(client: Client, fault: Fault, day: str) -> None:
    if fault.evidence:
        client.command(fault.evidence.format(date=day))
    for mart, rows in fault.rows.items():
        build, planted = f"marts.{mart}__build_{RUN}", f"marts.{mart}__planted"
        built = f"(select * from {build} where metric_date = '{day}')"
        client.command(f"create table {planted} as {build}")
        client.command(f"insert into {planted} {rows.format(day=built)}")
        client.command(f"alter table {build} drop partition '{day}'")
        client.command(f"insert into {build} select * from {planted}")
        client.command(f"drop table {planted}")


def test_each_gate_is_the_only_one_of_its_mart_to_see_some_fault(parsed: Path) -> None:
    seen = {gate for fault in FAULTS.values() for gate in fault.seen_by}
    assert seen == {gate for of_mart in gates(parsed).values() for gate in of_mart}
    alone = {
        gate
        for of_mart in gates(parsed).values()
        for fault in FAULTS.values()
        for gate in of_mart
        if set(fault.seen_by) & set(of_mart) == {gate}
    }
    assert alone == seen


def test_each_fault_is_seen_on_its_day_and_on_no_other(
    project: Project, client: Client, parsed: Path
) -> None:
    orders, seen = world(DAYS)
    orders.apply(client, controls=DAYS)
    clicks.write(client, seen)
    built = project.build(
        "run", "--select", "path:models/staging", "path:models/intermediate", "*__build",
        build_id=RUN, days=DAYS,
    )  # fmt: skip
    assert built.exit_code == 0, built.output
    for name, fault in FAULTS.items():
        plant(client, fault, DAY_OF[name])

    judged = project.build("test", "--select", "config.meta.gate:true", build_id=RUN, days=DAYS)
    assert judged.exit_code == 0, judged.output
    assert set(judged.statuses.values()) == {"warn"}, judged.statuses
    verdicts = client.query(
        "select mart, gate, toString(metric_date), failures from analytics.mart_verdicts final"
        " where run_id = {run:String}",
        parameters={"run": RUN},
    ).result_rows
    assert {(mart, gate, day) for mart, gate, day, _ in verdicts} == {
        (mart, gate, day) for mart, of_mart in gates(parsed).items() for gate in of_mart for day in DAYS
    }
    faults = {day: name for name, day in DAY_OF.items()}
    found: dict[str, dict[str, int]] = {name: {} for name in FAULTS}
    for _, gate, day, failures in verdicts:
        if failures:
            found.setdefault(faults.get(day, day), {})[gate] = failures
    assert found == {name: dict(fault.seen_by) for name, fault in FAULTS.items()}


def test_a_wrong_row_of_no_day_of_the_run_counts_against_each_of_its_days(
    project: Project, client: Client
) -> None:
    days = DAYS[:2]
    orders, _ = world(days)
    orders.apply(client, controls=days)
    build = f"marts.{SALES}__build_{RUN}"
    built = project.build("run", "--select", f"+{SALES}__build", build_id=RUN, days=days)
    assert built.exit_code == 0, built.output
    client.command(
        f"insert into {build} select * replace (metric_date + 30 as metric_date) from {build} limit 1"
    )
    judged = project.build("test", "--select", "event_sales_equal_control_totals", build_id=RUN, days=days)
    assert judged.statuses == {"event_sales_equal_control_totals": "warn"}, judged.output
    assert client.query(
        "select toString(metric_date), failures from analytics.mart_verdicts final order by all"
    ).result_rows == [(day, 16) for day in days]
