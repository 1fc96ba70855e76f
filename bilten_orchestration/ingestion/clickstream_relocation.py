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

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

from bilten_orchestration.errors import Problem, Refused
from bilten_orchestration.ingestion.clickstream_zones import zone

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_EVENTS_PER_STATEMENT: Final = 2_000
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
    Raises Refused, before anything is touched, when a zone is unknown here or to the server.
    """
    _check(client, set(zones.values()))
    moved = 0
    by_zone = sorted(zones.items(), key=lambda item: (item[1], item[0]))
    for name, group in groupby(by_zone, key=lambda item: item[1]):
        events = [event for event, _ in group]
        for start in range(0, len(events), _EVENTS_PER_STATEMENT):
            moved += _move(client, name, events[start : start + _EVENTS_PER_STATEMENT])
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


def _move(client: Client, name: str, events: list[UUID]) -> int:
    literals = ",".join(f"'{event}'" for event in events)
    # the zone is a constant of the statement: with a column ClickHouse would use the wrong one in silence
    day = f"toDate32(timestamp, '{name}')"
    where = f"event_id in ({literals}) and local_date <> {day}"
    moves = client.query(
        f"select local_date, {day} as day_after, count() from analytics.events where {where} group by 1, 2"
    ).result_rows
    if not moves:
        return 0
    relocation = uuid4()
    client.insert(
        "click_relocations",
        [(relocation, name, before, after, clicks) for before, after, clicks in moves],
        column_names=["relocation_id", "timezone", "day_before", "day_after", "clicks"],
        database="analytics",
    )
    client.command(f"alter table analytics.events update local_date = {day} where {where}", settings=_WAIT)
    return sum(int(clicks) for _, _, clicks in moves)


def _check(client: Client, names: set[str]) -> None:
    if not names:
        return
    # a name that Python does not know never gets into a statement
    known = sorted(name for name in names if zone(name) is not None)
    literals = ",".join(f"'{name}'" for name in known) or "''"
    rows = client.query(
        f"select time_zone from system.time_zones where time_zone in ({literals})"
    ).result_rows
    if missing := sorted(names - {row[0] for row in rows}):
        raise Refused(
            [
                Problem(
                    f"the time zone {name!r} is unknown",
                    expected="an IANA name that Python (tzdata) and ClickHouse (system.time_zones) know",
                    found=name,
                    next="correct users.organizations.timezone",
                )
                for name in missing
            ]
        )
