"""Events whose local days moved, because their organization changed its zone or they changed organization.

Their rows in other tables did not change in PostgreSQL, but their local dates did: they are read again
in the same batch, and their clicks are put on their new days.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from bilten_orchestration.ingestion.tables import BY_SOURCE

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_IDS_PER_STATEMENT = 2_000

ORGANIZATIONS = BY_SOURCE["users.organizations"]
EVENTS = BY_SOURCE["events.events"]


@dataclass(frozen=True, slots=True)
class Staged:
    """Of the stage: organizations that ClickHouse shows with another zone, events that it shows under another
    organization, and events that it does not show yet (people may have looked at them before)."""

    with_another_zone: frozenset[UUID]
    with_another_organization: frozenset[UUID]
    new_events: frozenset[UUID]


def staged(client: Client, since_batch: int | None) -> Staged:
    """`since_batch` is given when a batch before this one was killed half applied: then ClickHouse may show
    the new zone already, and everything written after that batch counts as changed."""
    written_after = f" or r.version > {since_batch}" if since_batch is not None else ""
    written_before = f" where version <= {since_batch}" if since_batch is not None else ""
    # one statement, for most batches have an event and none of these
    rows = client.query(
        f"select 'zone' as changed, s.id as id from {ORGANIZATIONS.stage} s final "
        f"join (select id, timezone, version from {ORGANIZATIONS.raw} final) r on r.id = s.id "
        f"where s.timezone <> r.timezone{written_after} "
        f"union all select 'organization', s.id from {EVENTS.stage} s final "
        f"join (select id, organization_id, version from {EVENTS.raw} final) r on r.id = s.id "
        f"where s.organization_id is distinct from r.organization_id{written_after} "
        f"union all select 'new', id from {EVENTS.stage} final "
        f"where id not in (select id from {EVENTS.raw} final{written_before})"
    ).result_rows
    found: dict[str, set[UUID]] = {"zone": set(), "organization": set(), "new": set()}
    for changed, key in rows:
        found[changed].add(UUID(str(key)))
    return Staged(*(frozenset(each) for each in found.values()))


def events_of(client: Client, organizations: Collection[UUID]) -> list[UUID]:
    """Events that ClickHouse or the stage shows under one of these organizations."""
    found: set[UUID] = set()
    for ids in _portions(sorted(organizations)):
        found |= set(
            _ids(
                client,
                f"select distinct id from (select id, organization_id from {EVENTS.raw} union all "
                f"select id, organization_id from {EVENTS.stage}) where organization_id in ({ids})",
            )
        )
    return sorted(found)


def zones_of(client: Client, events: list[UUID]) -> dict[UUID, str]:
    """The zone of each of these events as ClickHouse shows it now; UTC without an organization."""
    found: dict[UUID, str] = {}
    for ids in _portions(events):
        rows = client.query(
            f"select e.id, coalesce(nullIf(o.timezone, ''), 'UTC') from {EVENTS.raw} e final "
            f"left join (select id, timezone from {ORGANIZATIONS.raw} final) o on o.id = e.organization_id "
            f"where e.id in ({ids})"
        ).result_rows
        found |= {UUID(str(event)): str(zone) for event, zone in rows}
    return found


def _portions(ids: list[UUID]) -> Iterator[str]:
    """Lists of literals that stay below the server's longest statement."""
    for start in range(0, len(ids), _IDS_PER_STATEMENT):
        yield ", ".join(f"'{each}'" for each in ids[start : start + _IDS_PER_STATEMENT])


def _ids(client: Client, query: str) -> list[UUID]:
    return sorted(UUID(str(row[0])) for row in client.query(query).result_rows)
