"""Which index serves, how far it is behind, what is being built, what there is to go back to. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bilten_orchestration.errors import Problem
from bilten_orchestration.search import dead_letters, definition, marks, state
from bilten_orchestration.search.gates import size_of
from bilten_orchestration.search.opened import Opened, opened
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.postgres import clock

_HISTORY = 10


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """One recorded index. `lag_seconds`: age of the snapshot that it shows; it only grows for a kept one."""

    name: str
    state: str
    mapping_hash: str
    exists: bool
    documents: int | None
    bytes: int | None
    batch: int
    lag_seconds: float | None
    dead_letters: int
    ranges: int
    ranges_finished: int
    started_at: datetime
    swapped_at: datetime | None
    replaced_at: datetime | None


@dataclass(frozen=True, slots=True)
class Swap:
    """One move of the alias."""

    from_index: str | None
    to_index: str
    reason: str
    run_id: str | None
    swapped_at: datetime


@dataclass(frozen=True, slots=True)
class SearchStatus:
    """`index` is what the alias says. A lease is shown while the session of its holder lives.

    `swaps` are the last ones of `swaps_recorded`.
    """

    alias: str
    index: str | None
    previous: str | None
    mapping_hash: str
    wanted_mapping_hash: str
    lease_holder: str | None
    lease_until: datetime | None
    indices: tuple[IndexStatus, ...]
    swaps: tuple[Swap, ...]
    swaps_recorded: int
    problems: tuple[Problem, ...]


def status(settings: Settings) -> SearchStatus:
    """Problems: nothing serves, it is too far behind, it has dead letters, it was made otherwise."""
    with opened(settings, "the status") as stores:
        live = state.serving(stores.client)
        row = stores.connection.execute(
            "select previous_index, case when alive then lease_holder end, "
            "case when alive then lease_until end from system.search_state, lateral (select exists "
            "(select from pg_locks where locktype = 'advisory' and granted and pid = any(lease_pids)) "
            "as alive) l where alias = %s",
            (definition.ALIAS,),
        ).fetchone()
        indices = tuple(_of(stores, index) for index in state.indices(stores.connection))
        swaps = tuple(
            Swap(*found)
            for found in stores.connection.execute(
                "select from_index, to_index, reason, run_id, swapped_at from system.search_swaps "
                "where alias = %s order by id desc limit %s",
                (definition.ALIAS, _HISTORY),
            )
        )
        recorded = stores.connection.execute(
            "select count(*) from system.search_swaps where alias = %s", (definition.ALIAS,)
        ).fetchone()
        carried = _mapping_hash(stores, live)
    return SearchStatus(
        alias=definition.ALIAS,
        index=live,
        previous=row[0] if row else None,
        mapping_hash=carried,
        wanted_mapping_hash=definition.mapping_hash(),
        lease_holder=row[1] if row else None,
        lease_until=row[2] if row else None,
        indices=indices,
        swaps=swaps,
        swaps_recorded=recorded[0] if recorded else 0,
        problems=tuple(_problems(settings, live, carried, indices)),
    )


def _of(stores: Opened, index: state.Index) -> IndexStatus:
    connection, client = stores.connection, stores.client
    exists = bool(client.indices.exists(index=index.name))
    known = marks.followed(connection, index.name)
    as_of = connection.execute(
        "select as_of from system.sync_state where consumer = %s", (marks.consumer(index.name),)
    ).fetchone()
    planned, finished = connection.execute(
        "select count(*), count(finished_at) from system.search_ranges where index_name = %s", (index.name,)
    ).fetchone() or (0, 0)
    documents, size = size_of(client, index.name) if exists else (None, None)
    lag = (clock(connection) - as_of[0]).total_seconds() if as_of and as_of[0] else None
    return IndexStatus(
        name=index.name,
        state=index.state,
        mapping_hash=index.mapping_hash,
        exists=exists,
        documents=documents,
        bytes=size,
        batch=known.batch,
        lag_seconds=lag,
        dead_letters=len(dead_letters.open_letters(connection, index.name)),
        ranges=planned,
        ranges_finished=finished,
        started_at=index.started_at,
        swapped_at=index.swapped_at,
        replaced_at=index.replaced_at,
    )


def _mapping_hash(stores: Opened, live: str | None) -> str:
    if live is None:
        return ""
    mappings: dict[str, Any] = stores.client.indices.get_mapping(index=live)[live]["mappings"]
    return str(mappings.get("_meta", {}).get("mapping_hash", ""))


def _problems(
    settings: Settings, live: str | None, carried: str, indices: tuple[IndexStatus, ...]
) -> list[Problem]:
    if live is None:
        return [
            Problem(
                f"{definition.ALIAS} does not exist",
                expected="an index behind it",
                found="none",
                next="bilten search reindex",
            )
        ]
    problems = []
    if carried != definition.mapping_hash():
        problems.append(
            Problem(
                f"{live} was made by another definition",
                expected=f"mapping {definition.mapping_hash()}",
                found=carried or "none",
                next="bilten search reindex",
            )
        )
    most = settings.search.lag_alert_seconds
    for index in indices:
        if index.name != live:
            continue
        if index.lag_seconds is None or index.lag_seconds > most:
            problems.append(
                Problem(
                    f"{live} is behind PostgreSQL",
                    expected=f"at most {most} s",
                    found="nobody knows how far"
                    if index.lag_seconds is None
                    else f"{index.lag_seconds:.0f} s",
                    next="bilten search delta",
                )
            )
        if index.dead_letters:
            problems.append(
                Problem(
                    f"{live} refuses documents",
                    expected="no dead letters",
                    found=str(index.dead_letters),
                    next="select * from system.search_dead_letters where resolved_at is null",
                )
            )
    return problems
