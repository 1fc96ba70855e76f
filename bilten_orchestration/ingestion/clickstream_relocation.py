"""Clicks whose local day was computed in a zone that no longer holds.

An organization changes its zone, an event changes its organization, or an event is synced after people
have looked at it: `relocate` rewrites local_date of these events' clicks by a mutation, and tells
which days lost or gained clicks.

Kill-safe: which days are concerned is no longer to be seen once the mutation has run. So they are first
written to analytics.click_relocations, and `relocate` returns what stands there until the caller has
marked those days and says so with `settle`.

    killed before the journal is written     nothing happened; the next call does it all
    killed between journal and mutation      the next call journals again (the same days) and mutates
    killed while the mutation runs           the server ends it, also after a restart; see above
    killed before the caller's commit        the next call returns the days from the journal
    killed between commit and settle         the days are returned once more: marked twice, harmless
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

from bilten_orchestration.errors import Problem, Refused
from bilten_orchestration.ingestion.clickstream_zones import day_expression, known, zone_expression

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_EVENTS_PER_SCAN: Final = 50_000
_LONGEST_SCAN_BYTES: Final = 16 << 20
_EVENTS_PER_MUTATION: Final = 1_000  # mutations are kept as text and shown in system.mutations
_WAIT: Final = {"mutations_sync": 2}


@dataclass(frozen=True, slots=True)
class RelocationReport:
    """`days`: local days that lost or gained clicks, of this call and of earlier unsettled ones."""

    clicks_moved: int
    days: tuple[date, ...]
    journal: tuple[UUID, ...]  # what `settle` takes


def relocate(client: Client, zones: Mapping[UUID, str]) -> RelocationReport:
    """Put all clicks of these events on their local day in the given zone (IANA name; "UTC" for none).

    Idempotent. Waits for the mutation. With no zones it only returns what is unsettled.
    Raises Refused, before anything is touched, when a zone is unknown.
    """
    _check(set(zones.values()))
    moved = 0
    events = sorted(zones)
    for start in range(0, len(events), _EVENTS_PER_SCAN):
        moved += _move(client, {event: zones[event] for event in events[start : start + _EVENTS_PER_SCAN]})
    rows = client.query(
        "select relocation_id, groupUniqArrayArray([day_before, day_after])"
        " from analytics.click_relocations group by relocation_id"
    ).result_rows
    return RelocationReport(
        clicks_moved=moved,
        days=tuple(sorted({day for _, days in rows for day in days})),
        journal=tuple(sorted(UUID(str(relocation)) for relocation, _ in rows)),
    )


def settle(client: Client, report: RelocationReport) -> None:
    """Forget the journal of that report: its days are durably marked for rebuilding."""
    if report.journal:
        literals = ",".join(f"'{relocation}'" for relocation in report.journal)
        client.command(
            f"alter table analytics.click_relocations delete where relocation_id in ({literals})",
            settings=_WAIT,
        )


def _move(client: Client, zones: Mapping[UUID, str]) -> int:
    first, last, clicks = client.query(
        "select min(created_date), max(created_date), count() from analytics.events"
    ).result_rows[0]
    if not clicks:
        return 0
    day = day_expression(zones, first, last)
    wrong = client.query(
        f"with {zone_expression(zones)} as zone_number"
        f" select event_id, local_date, {day} as day_after, count() from analytics.events"
        " where zone_number > 0 and local_date <> day_after group by 1, 2, 3",
        settings={"max_query_size": _LONGEST_SCAN_BYTES},
    ).result_rows
    moving = sorted({UUID(str(event)) for event, *_ in wrong})
    for start in range(0, len(moving), _EVENTS_PER_MUTATION):
        some = {event: zones[event] for event in moving[start : start + _EVENTS_PER_MUTATION]}
        moves = Counter[tuple[str, date, date]]()
        for event, before, after, number in wrong:
            if (name := some.get(UUID(str(event)))) is not None:
                moves[name, before, after] += int(number)
        _journal(client, moves)
        day = day_expression(some, first, last)
        client.command(
            f"alter table analytics.events update local_date = {day}"
            f" where ({zone_expression(some)} as zone_number) > 0 and local_date <> {day}",
            settings=_WAIT,
        )
    return sum(int(number) for *_, number in wrong)


def _journal(client: Client, moves: Mapping[tuple[str, date, date], int]) -> None:
    relocation = uuid4()
    client.insert(
        "click_relocations",
        [(relocation, name, before, after, clicks) for (name, before, after), clicks in moves.items()],
        column_names=["relocation_id", "timezone", "day_before", "day_after", "clicks"],
        database="analytics",
    )


def _check(names: set[str]) -> None:
    """A name that is none never gets into a statement."""
    if missing := sorted(name for name in names if not known(name)):
        raise Refused(
            [
                Problem(
                    f"the time zone {name!r} is unknown",
                    expected="an IANA name of the tzdata package",
                    found=name,
                    next="correct users.organizations.timezone",
                )
                for name in missing
            ]
        )
