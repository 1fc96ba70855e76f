"""A plan of all tables, and what it was made from: what is there, archives, clocks. Changes nothing itself.

The repository is asked only where something ends; where it is away, that is a problem and the rest is
planned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bilten_orchestration.backups.repository.opened import Opened, key_file
from bilten_orchestration.drills.postgres import digests
from bilten_orchestration.errors import BiltenError, Problem, Refused, StoreUnavailable, TransientError
from bilten_orchestration.partitions import archives, declared
from bilten_orchestration.partitions.actions import Action, Hindrance, Plan, hindrances, problems_of
from bilten_orchestration.partitions.archives import Archives
from bilten_orchestration.partitions.declared import DECLARED, PartitionedTable
from bilten_orchestration.partitions.postgres import seen, trust
from bilten_orchestration.partitions.postgres.plan import plan
from bilten_orchestration.partitions.postgres.seen import Seen
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.postgres import Connection

NAME = "bilten partitions"


@dataclass(frozen=True, slots=True)
class Planned:
    """`actions` of all tables in order, and what hinders. `wanted`: the repository has something to do;
    `away`: it was asked, and did not answer."""

    actions: tuple[Action, ...]
    hindrances: tuple[Hindrance, ...]
    wanted: bool
    away: bool = False

    @property
    def plan(self) -> Plan:
        return Plan(self.actions, problems_of(self.hindrances))


def preview(
    settings: Settings,
    *,
    tables: Sequence[PartitionedTable] = DECLARED,
    first: datetime | None = None,
    limit: int | None = None,
    progress: Progress = silent,
) -> Plan:
    """What `apply` would do, and why.

    Raises Refused (the declaration), StoreUnavailable (PostgreSQL).
    """
    refuse_wrong(tables)
    with translated("the plan of partitions"), connected(settings) as connection:
        return planned(settings, connection, tables, first, limit, progress).plan


def planned(
    settings: Settings,
    connection: Connection,
    tables: Sequence[PartitionedTable],
    first: datetime | None,
    limit: int | None,
    progress: Progress,
    create: Callable[[PartitionedTable, Sequence[Action]], None] | None = None,
) -> Planned:
    """With `create` what is missing is made before the repository is asked for anything."""
    limit = settings.partitions.end_limit if limit is None else limit
    found, unread = _seen(connection, tables)
    made = [plan(each, limit=limit, first=first) for each in found]
    if create is not None:
        for each, one in zip(found, made, strict=True):
            create(each.table, [action for action in one.actions if action.action == "create"])
    silence = timedelta(days=settings.partitions.silence_days)
    doubts = trust.untrusted(found, datetime.now(UTC), None, silence)
    if not any(_needs_repository(each, one) for each, one in zip(found, made, strict=True)):
        if doubts:
            made = [plan(each, limit=limit, first=first, untrusted=doubts) for each in found]
        return _joined(found, made, unread, wanted=False)
    listed, clock, away = _repository(settings, progress, new=create is not None)
    doubts = [*trust.untrusted(found, datetime.now(UTC), clock, silence), *away]
    found = [seen.with_archives(each, listed.archives) for each in found]
    made = [plan(each, limit=limit, first=first, untrusted=doubts) for each in found]
    # archives that cannot be believed are none, and told
    told = [*unread, *hindrances([*away, *listed.problems])]
    return _joined(found, made, told, wanted=True, away=bool(away))


def refuse_wrong(tables: Sequence[PartitionedTable]) -> None:
    if problems := declared.problems(tables):
        raise Refused(problems)


@contextmanager
def connected(settings: Settings) -> Iterator[Connection]:
    with postgres.connect(settings.postgres, application_name=NAME, autocommit=True) as connection:
        digests.pin(connection)
        # what only reads waits too: for somebody's ACCESS EXCLUSIVE, which may never end
        patience = f"{settings.partitions.lock_retry_seconds}s"
        connection.execute("select set_config('lock_timeout', %s, false)", (patience,))
        yield connection


def _joined(
    found: Sequence[Seen],
    made: Sequence[Plan],
    told: Sequence[Hindrance],
    *,
    wanted: bool,
    away: bool = False,
) -> Planned:
    return Planned(
        tuple(action for one in made for action in one.actions),
        (
            *(
                hindrance
                for each, one in zip(found, made, strict=True)
                for hindrance in hindrances(one.problems, each.table.name)
            ),
            *told,
        ),
        wanted,
        away,
    )


def _needs_repository(each: Seen, one: Plan) -> bool:
    ends = any(action.action not in ("create", "keep") for action in one.actions)
    return ends or each.table.archive_retention is not None


def _seen(connection: Connection, tables: Sequence[PartitionedTable]) -> tuple[list[Seen], list[Hindrance]]:
    """What there is, and what could not be read."""
    found: list[Seen] = []
    unread: list[Hindrance] = []
    for table in tables:
        try:
            with translated(f"reading the partitions of {table.name}"):
                found.append(seen.read(connection, table))
        except StoreUnavailable:
            raise
        except (Refused, TransientError) as error:  # such as a lock that somebody keeps
            unread += hindrances(error.problems, table.name)
    return found, unread


def _repository(
    settings: Settings, progress: Progress, *, new: bool
) -> tuple[Archives, datetime | None, list[Problem]]:
    """Archives, the store's clock, and why neither is known. Without keys nothing was archived yet."""
    if not new and not key_file(settings).exists():
        return Archives((), ()), None, []
    try:
        with Opened.of(settings, new=new, progress=progress) as opened:
            listed = archives.read(opened.repository, opened.ring, "postgres")
            return listed, opened.repository.clock(), []
    except BiltenError as error:
        return Archives((), ()), None, list(error.problems)
