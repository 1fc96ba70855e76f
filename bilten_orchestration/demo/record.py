"""The record of a demo load, in the database it filled: which plan, and which parts are done.

The table is made by the load and not by a migration: it exists only where demo data does.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

from bilten_orchestration.demo.plan import Plan
from bilten_orchestration.errors import Refused, UsageError
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.postgres import Connection

_TABLE = """
    create table if not exists system.demo_loads (
        seed bigint not null,
        scale double precision not null,
        today date not null,
        operational jsonb not null,
        finished jsonb not null default '{}',
        loaded_at timestamptz not null default now()
    );
    comment on table system.demo_loads is 'The demo load that filled this database,
    and which of its parts are done'
"""


@dataclass(frozen=True, slots=True)
class Operational:
    """`rows` per table; `digest` is sha256 over every row sent; `rules` is offenders per rule, all 0."""

    digest: str
    rows: dict[str, int]
    late_changes: dict[str, int]
    rules: dict[str, int]
    seconds: float


@dataclass(frozen=True, slots=True)
class Part:
    """How far a part has come: `batches` of `rows` in all; a kill loses at most the batch under way."""

    batches: int = 0
    rows: int = 0
    seconds: float = 0.0
    done: bool = False


@dataclass(frozen=True, slots=True)
class Admission:
    """What is to be loaded, and what of it is there: `operational` is None for an empty database."""

    plan: Plan
    operational: Operational | None
    parts: dict[str, Part]


def begin(connection: Connection, plan: Plan, operational: Operational) -> None:
    """Record the operational part, inside the transaction that loads it."""
    connection.execute(_TABLE)
    connection.execute("delete from system.demo_loads")  # of data that a migration down has taken away
    connection.execute(
        "insert into system.demo_loads (seed, scale, today, operational) values (%s, %s, %s, %s)",
        (plan.seed, plan.scale, plan.today, json.dumps(asdict(operational))),
    )


def mark(connection: Connection, name: str, part: Part) -> None:
    """Record how far a part has come."""
    connection.execute(
        "update system.demo_loads set finished = finished || jsonb_build_object(%s::text, %s::jsonb)",
        (name, json.dumps(asdict(part))),
    )


def admit(
    settings: Settings, connection: Connection, seed: int, scale: float, today: date | None
) -> Admission:
    """Decide what this load is, before anything is touched.

    Raises UsageError (scale, seed, day), Refused (no schema, rows that are not ours, another plan,
    production).
    """
    if not 0 < scale <= 1000:
        raise UsageError(
            "the scale is out of bounds",
            expected="above 0, at most 1000",
            found=f"{scale:g}",
            next="--scale 1",
        )
    if seed < 0:
        raise UsageError("the seed is negative", expected="0 or more", found=str(seed), next="--seed 7")
    utc_today = datetime.now(UTC).date()
    if today is not None and today > utc_today:
        raise UsageError(
            "the demo data would lie in the future", expected=f"at most {utc_today} (UTC)", found=str(today)
        )
    row = connection.execute(
        "select to_regclass('events.events') is not null, to_regclass('system.demo_loads') is not null"
    ).fetchone()
    assert row is not None  # noqa: S101 (for the type checker)
    if not row[0]:
        raise Refused(
            "the database has no schema",
            expected="table events.events",
            found="none",
            next="bilten migrate up",
        )
    found = connection.execute(
        "select exists (select from events.events), exists (select from users.users)"
    ).fetchone()
    assert found is not None  # noqa: S101 (for the type checker)
    record: tuple[Any, ...] | None = None
    if row[1] and any(found):
        record = connection.execute(
            "select seed, scale, today, operational, finished from system.demo_loads"
        ).fetchone()
    if record is None and any(found):
        raise Refused(
            f"{settings.postgres.database} already holds {'events' if found[0] else 'users'}"
            " that no demo load wrote",
            expected="an empty, migrated database",
            found=f"rows in {'events.events' if found[0] else 'users.users'}",
            next="use another database: BILTEN_POSTGRES__DATABASE",
        )
    if settings.environment == "production" and record is None:
        raise Refused(
            "demo data does not go into production",
            expected="BILTEN_ENVIRONMENT local, test or staging",
            found="production",
            next="check which server the settings name",
        )
    if record is None:
        return Admission(Plan(seed, scale, today or utc_today), None, {})
    if (record[0], record[1]) != (seed, scale) or today not in (None, record[2]):
        raise Refused(
            "the database holds another demo load",
            expected=f"seed {record[0]}, scale {record[1]:g}, today {record[2]}",
            found=f"seed {seed}, scale {scale:g}, today {today or record[2]}",
            next=f"bilten demo load --seed {record[0]} --scale {record[1]:g}, or an empty database",
        )
    parts = {name: Part(**part) for name, part in record[4].items()}
    return Admission(Plan(seed, scale, record[2]), Operational(**record[3]), parts)
