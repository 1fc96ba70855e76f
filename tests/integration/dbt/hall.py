"""A small world with one of each: what test_summaries.py counts by hand.

All is over (2025), but for one event that is long to come.
"""

from __future__ import annotations

from decimal import Decimal

from tests.integration.dbt.clicks import Click
from tests.integration.dbt.scenario import LONG_AGO, Scenario, days_between, uid

DAYS = days_between("2025-02-28", "2025-04-20")
SALE = "2025-04-05"


def world() -> Scenario:
    world = Scenario()
    world.organization("Hall", "Europe/Berlin")
    concert(world)
    other_events(world)
    people_and_places(world)
    return world


def concert(world: Scenario) -> None:
    """Two currencies, one of them also for a ticket type of the other; all that becomes of money."""
    world.event("Concert", organization="Hall", start="2025-04-10 18:00")
    world.change("events_events", "Concert", venue_id=uid("Arena"), category="music", tags=["loud", "late"])
    world.ticket_type("Seat", "Concert", quantity=100)
    world.ticket_type("VIP", "Concert", price="80", currency="EUR", quantity=20)
    world.ticket_type("Withdrawn", "Concert", quantity=50)
    world.change("tickets_ticket_types", "Withdrawn", deleted_at=LONG_AGO)
    # half an hour before midnight in UTC: the next day in Berlin, and here the next month
    world.payment(
        "o1", "Concert", "2025-02-28 23:30", "50", fee="3", tax="2", user="ann",
        tickets=["c1", "c2", "c3"], ticket_type="Seat",
    )  # fmt: skip
    world.payment(
        "o2", "Concert", "2025-03-20 23:30", "20", user="bob", tickets=["c4", "c5"], ticket_type="Seat"
    )
    world.payment(
        "o3", "Concert", f"{SALE} 10:00", "80", currency="EUR", user="ann", tickets=["v1"], ticket_type="VIP"
    )
    world.payment("o4", "Concert", f"{SALE} 12:00", "15", user="bob", tickets=["c6"], ticket_type="Seat")
    world.payment("o5", "Concert", f"{SALE} 11:00", "90", user="cat", tickets=["v2"], ticket_type="VIP")
    world.ticket("free", "Concert", "Seat", purchased="2025-04-01 12:00")
    world.ticket("comp", "Concert", "Seat", purchased="2025-03-05 12:00", comp=True)
    world.change("tickets_tickets", "c1", status="transferred")
    world.ticket("c1 handed on", "Concert", "Seat", purchased="2025-03-30 12:00", transferred_from="c1")
    for ticket in ("c1 handed on", "c2", "comp", "v1", "v2"):
        world.check_in(ticket, "2025-04-10 18:10")
    world.refund("kept", "o2", "2025-03-25 12:00", "10", fee="1", tax="0.5", ticket="c4")
    world.refund("failed", "o2", "2025-03-26 12:00", "10", ticket="c5")
    world.reverse("payments_refunds", "failed", "2025-03-28 12:00")
    world.chargeback("lost", "o1", "2025-04-15 12:00", "50", dispute_fee="15")
    world.chargeback("won", "o4", "2025-04-16 12:00", "15")
    world.reverse("payments_chargebacks", "won", "2025-04-20 12:00")


def other_events(world: Scenario) -> None:
    world.event("Called off", organization="Hall", start="2025-04-12 18:00")
    world.change("events_events", "Called off", status="cancelled")
    world.ticket_type("Floor", "Called off", quantity=40)
    world.payment(
        "o6", "Called off", "2025-03-10 12:00", "40", user="dan", tickets=["x1", "x2"], ticket_type="Floor"
    )
    world.refund("x1 back", "o6", "2025-04-01 12:00", "20", ticket="x1")

    world.event("Later", organization="Hall", start="2099-06-01 18:00")
    world.ticket_type("Early bird", "Later", quantity=10)
    world.payment(
        "o7", "Later", "2025-03-11 12:00", "10", user="ann", tickets=["l1"], ticket_type="Early bird"
    )

    # begins on the next day in Berlin; one came and got the money back, the other one never came
    world.event("Bad night", organization="Hall", start="2025-04-08 22:30")
    world.ticket_type("Stool", "Bad night", quantity=5)
    world.payment(
        "o8", "Bad night", "2025-03-12 12:00", "20", user="eve", tickets=["r1", "r2"], ticket_type="Stool"
    )
    world.check_in("r1", "2025-04-08 22:40")
    world.refund("r1 back", "o8", "2025-04-10 12:00", "10", ticket="r1")

    world.event("Unsold", organization="Hall", start="2025-05-01 18:00")
    world.change("events_events", "Unsold", deleted_at=LONG_AGO)
    world.ticket_type("Unwanted", "Unsold", quantity=30)

    world.event("Street", organizer="staff", start="2025-04-02 18:00")
    world.change("users_users", "staff", role="admin")
    world.payment("o9", "Street", "2025-03-15 12:00", "5", user="ann")
    # never was: cat did not come before April
    world.payment("mistake", "Concert", "2025-03-03 12:00", "500", user="cat")
    world.change("payments_payments", "mistake", deleted_at=LONG_AGO)


def people_and_places(world: Scenario) -> None:
    world.put("users_users", "idle", role="organizer", status="suspended", email_verified=False,
              organization_id=uid("Hall"))  # fmt: skip
    world.put("users_users", "ann", role="user", status="active", email_verified=True)
    world.put(
        "events_venues", "Arena", name="Arena", address="1 Long Street", city="Berlin", country="DE",
        latitude=Decimal("52.520008"), longitude=Decimal("13.404954"), capacity=900, amenities=["bar"],
    )  # fmt: skip


def seen() -> list[Click]:
    mail = {"utm_source": "Mail", "utm_medium": "email", "utm_campaign": "spring"}
    return [
        Click("ann's browser", "Concert", f"{SALE} 09:00"),
        Click("ann's browser", "Concert", f"{SALE} 09:30", "checkout_started", user="ann"),
        # one browser and one session at two events of the organization
        Click("window", "Concert", f"{SALE} 10:00", properties=mail),
        Click("window", "Later", f"{SALE} 10:01", properties=mail),
        Click("window", "Concert", f"{SALE} 10:02", properties=mail),
    ]
