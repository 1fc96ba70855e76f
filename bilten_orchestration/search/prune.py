"""Old indices removed, after a preview.

 1  the index behind the alias stays, whatever the record says; it is asked again just before each removal
 2  an index that served is kept for BILTEN_SEARCH__KEEP_DAYS after it was replaced
 3  one that never served (refused, abandoned, left by a dead builder) for KEEP_UNSERVED_DAYS from its begin
 4  what is not in the record is shown and stays: it is not ours

Under the lease, so that nothing is being built or rolled back. An index is removed by its name, then that is
written down; killed in between, the next call finds it gone and writes it down. Nothing that PostgreSQL does
not have is lost: an index can be built anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from bilten_orchestration.errors import Problem
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.search import definition, gates, lease, state
from bilten_orchestration.search.opened import Opened, opened
from bilten_orchestration.settings import Settings
from bilten_orchestration.settings.search import SearchSettings
from bilten_orchestration.stores.postgres import clock

if TYPE_CHECKING:
    from opensearchpy import OpenSearch


@dataclass(frozen=True, slots=True)
class IndexAction:
    """What becomes of one index. `bytes` of its primaries; None where it is not there."""

    index: str
    action: Literal["keep", "remove"]
    reason: str
    bytes: int | None


@dataclass(frozen=True, slots=True)
class PruneReport:
    """`removed` is empty in a preview."""

    actions: tuple[IndexAction, ...]
    removed: tuple[str, ...]
    problems: tuple[Problem, ...] = ()


def prune(
    settings: Settings,
    *,
    execute: bool = False,
    run_id: str = "bilten search prune",
    progress: Progress = silent,
) -> PruneReport:
    """Raises LockHeld when somebody builds (only with `execute`)."""
    with opened(settings, "the removal of old indices") as stores:
        if not execute:
            return PruneReport(_plan(settings.search, stores), ())
        with lease.held(settings, run_id, stores.connection) as held:
            state.settle(stores.connection, stores.client, run_id)
            actions = _plan(settings.search, stores)
            removed = []
            for each in actions:
                if each.action == "keep":
                    continue
                held.renew()
                if state.serving(stores.client) == each.index:
                    continue
                if each.bytes is not None:
                    stores.client.indices.delete(index=each.index)
                state.forget(stores.connection, each.index)
                removed.append(each.index)
                progress(f"{each.index} removed: {each.reason}")
        return PruneReport(actions, tuple(removed))


def _plan(settings: SearchSettings, stores: Opened) -> tuple[IndexAction, ...]:
    live = state.serving(stores.client)
    now = clock(stores.connection)
    there = set(stores.client.indices.get(index=f"{definition.PREFIX}*"))
    actions = []
    for index in state.indices(stores.connection):
        size = _bytes(stores.client, index.name) if index.name in there else None
        reason = None if index.name == live else _over(settings, index, now)
        actions.append(
            IndexAction(
                index.name,
                "keep" if reason is None else "remove",
                reason or _kept(settings, index, live),
                size,
            )
        )
    known = {index.name for index in state.indices(stores.connection, removed=True)}
    for name in sorted(there - known):
        actions.append(IndexAction(name, "keep", "not in the record: not ours", _bytes(stores.client, name)))
    return tuple(actions)


def _over(settings: SearchSettings, index: state.Index, now: datetime) -> str | None:
    """Why the index goes; None while it stays."""
    if index.replaced_at is not None:
        if now - index.replaced_at > timedelta(days=settings.keep_days):
            return f"replaced {index.replaced_at:%F}, more than {settings.keep_days} days ago"
    elif index.swapped_at is None and now - index.started_at > timedelta(days=settings.keep_unserved_days):
        return f"{index.state} since {index.started_at:%F}, more than {settings.keep_unserved_days} days ago"
    return None


def _kept(settings: SearchSettings, index: state.Index, live: str | None) -> str:
    if index.name == live:
        return "serves"
    if index.replaced_at is not None:
        return f"until {index.replaced_at + timedelta(days=settings.keep_days):%F}, to go back to"
    return f"{index.state}, until {index.started_at + timedelta(days=settings.keep_unserved_days):%F}"


def _bytes(client: OpenSearch, index: str) -> int:
    return gates.size_of(client, index)[1]
