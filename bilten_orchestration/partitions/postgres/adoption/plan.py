"""What an adoption would do; what forbids it says obstacles.py. Nothing is touched."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from bilten_orchestration.errors import Refused
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.postgres.adoption.names import bounds_check, first_name
from bilten_orchestration.partitions.postgres.adoption.obstacles import obstacles
from bilten_orchestration.stores.postgres import Connection

MARGIN_DAYS = 7

State = Literal["plain", "checked", "valid", "adopted"]


@dataclass(frozen=True, slots=True)
class AdoptionPlan:
    """`first` is the partition that the table becomes, from `from_at` to before `to_at` (UTC).

    `state`: plain, checked (its CHECK is there, not validated), valid, adopted. `rows` is an estimate.
    `steps` are for people, in order.
    """

    table: str
    first: str
    from_at: datetime
    to_at: datetime
    state: State
    rows: int
    bytes: int
    steps: tuple[str, ...]


def kind(connection: Connection, name: str) -> str | None:
    """relkind of a table, None where there is none."""
    row = connection.execute("select relkind from pg_class where oid = to_regclass(%s)", (name,)).fetchone()
    return None if row is None else str(row[0])


def plan(connection: Connection, table: PartitionedTable, *, now: datetime | None = None) -> AdoptionPlan:
    """Raises Refused with everything that stands in the way."""
    found = kind(connection, table.name)
    if found != "r":
        raise Refused(
            f"{table.name} cannot be adopted",
            expected="an ordinary table that is not partitioned",
            found={None: "no such table", "p": "it is partitioned already"}.get(found, f"relkind {found}"),
            next="bilten partitions list; apply makes what is missing of a partitioned one",
        )
    problems = obstacles(connection, table)
    if problems:
        raise Refused(problems)
    state, low, high = _begun(connection, table)
    if low is None or high is None:
        state, (low, high) = "plain", _bounds(connection, table, now or datetime.now(UTC))
    rows, size = connection.execute(  # type: ignore[misc]
        "select greatest(reltuples, 0)::bigint, pg_total_relation_size(oid) from pg_class"
        " where oid = %s::regclass",
        (table.name,),
    ).fetchone()
    first = f"{table.schema}.{first_name(table)}"
    steps = [
        f"CHECK ({table.column} from {low:%F} to before {high:%F}) NOT VALID: new rows keep to it at once",
        "VALIDATE it: reads the whole table, beside writers",
        f"in one transaction: a parent like {table.name}, {table.name} renamed to {first} and attached to it",
        "the months after it, and those ahead",
    ]
    return AdoptionPlan(
        table=table.name,
        first=first,
        from_at=low,
        to_at=high,
        state=state,
        rows=rows,
        bytes=size,
        steps=tuple(steps[{"plain": 0, "checked": 1, "valid": 2, "adopted": 3}[state] :]),
    )


def _begun(connection: Connection, table: PartitionedTable) -> tuple[State, datetime | None, datetime | None]:
    """What a killed run left: its CHECK carries the bounds as its comment."""
    row = connection.execute(
        """
        select convalidated, obj_description(oid, 'pg_constraint') from pg_constraint
        where conrelid = %s::regclass and conname = %s and contype = 'c'
        """,
        (table.name, bounds_check(table)),
    ).fetchone()
    if row is None or row[1] is None:
        return "plain", None, None
    low, high = (datetime.fromisoformat(text) for text in str(row[1]).split(" to "))
    return ("valid" if row[0] else "checked"), low, high


def _bounds(connection: Connection, table: PartitionedTable, now: datetime) -> tuple[datetime, datetime]:
    """Whole months around all rows, and far enough ahead that validating may take days."""
    row = connection.execute(
        f"""
        select case when isfinite(low) then low end, case when isfinite(high) then high end,
               isfinite(low) and isfinite(high)
        from (select min({table.column}) as low, max({table.column}) as high from {table.name}) as ends
        """
    ).fetchone()
    assert row is not None  # noqa: S101
    if row[2] is False:
        raise Refused(
            f"{table.name} has rows at infinity",
            expected=f"{table.column} is a moment, which lies in a month",
            found="infinity or -infinity",
            next=f"select from {table.name} where not isfinite({table.column}), and correct what it finds",
        )
    oldest, newest = (row[0] or now), (row[1] or now)
    ahead = Period.of(now, table.interval)
    while (ahead.end - now).days < MARGIN_DAYS:
        ahead = ahead.plus(1)
    return (
        Period.of(min(oldest, now), table.interval).start,
        max(ahead, Period.of(newest, table.interval)).end,
    )
