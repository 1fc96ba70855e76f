"""What is known of the indices: the alias in OpenSearch, and its record in system.search_* of PostgreSQL.

Which index serves is what the alias says. The record follows it: `settle` writes down a swap whose maker died
before it could. How far each index has come is in marks.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from bilten_orchestration.errors import Refused
from bilten_orchestration.search import definition, marks
from bilten_orchestration.search.bulk import write_alias
from bilten_orchestration.search.documents import KeyRange
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

State = Literal["building", "refused", "abandoned", "serving", "kept", "removed"]
Reason = Literal["rebuild", "rollback", "found"]


@dataclass(frozen=True, slots=True)
class Index:
    """A row of system.search_indices."""

    name: str
    alias: str
    mapping_hash: str
    state: State
    run_id: str | None
    documents: int | None
    bytes: int | None
    started_at: datetime
    loaded_at: datetime | None
    swapped_at: datetime | None
    replaced_at: datetime | None
    removed_at: datetime | None
    failed_gates: tuple[str, ...]


# -- the alias -----------------------------------------------------------------------------------


def serving(client: OpenSearch, alias: str = definition.ALIAS) -> str | None:
    """The index behind the alias. Refused where the name is an index, or stands for several."""
    if not client.indices.exists_alias(name=alias):
        if client.indices.exists(index=alias):
            raise Refused(
                f"{alias} is an index, and must be an alias",
                expected="no index of this name: something wrote to it before there was an alias",
                found=f"an index {alias}",
                next="look what wrote it, remove it, and forbid action.auto_create_index",
            )
        return None
    found = sorted(client.indices.get_alias(name=alias))
    if len(found) > 1:
        raise Refused(
            f"{alias} stands for several indices",
            expected="one",
            found=", ".join(found),
            next="take the alias from all but one of them",
        )
    return str(found[0])


def settle(connection: Connection, client: OpenSearch, run_id: str) -> str | None:
    """Bring the record to what the alias says, and tell what serves.

    The record is read first: of a swap that is made and recorded meanwhile, the alias tells already, or
    nothing is seen of it. The other way round, it would be taken back in the record.
    """
    row = connection.execute(
        "select index_name from system.search_state where alias = %s", (definition.ALIAS,)
    ).fetchone()
    recorded = row[0] if row else None
    live = serving(client)
    if live is not None and live != recorded:
        with connection.transaction():
            record_swap(connection, recorded, live, _reason(connection, client, live), run_id)
    return live


def _reason(connection: Connection, client: OpenSearch, live: str) -> Reason:
    """What the one who did not record his swap was doing. An index that is not known is from now on."""
    row = connection.execute(
        "select state from system.search_indices where index_name = %s", (live,)
    ).fetchone()
    if row is not None:
        return "rollback" if row[0] == "kept" else "rebuild"
    meta = client.indices.get_mapping(index=live)[live]["mappings"].get("_meta", {})
    connection.execute(
        "insert into system.search_indices (index_name, alias, mapping_hash, state) "
        "values (%s, %s, %s, 'serving')",
        (live, definition.ALIAS, meta.get("mapping_hash", "unknown")),
    )
    return "found"


def record_swap(connection: Connection, before: str | None, after: str, reason: Reason, run_id: str) -> None:
    """The record of an alias action that was carried out; nothing where it is written down already."""
    with connection.transaction():
        row = connection.execute(
            "select index_name from system.search_state where alias = %s for update", (definition.ALIAS,)
        ).fetchone()
        if row is not None and row[0] == after:
            return
        connection.execute(
            "insert into system.search_state as s "
            "(alias, index_name, previous_index, mapping_hash, swapped_at) values "
            "(%(alias)s, %(after)s, %(before)s, (select mapping_hash from system.search_indices "
            "where index_name = %(after)s), clock_timestamp()) "
            "on conflict (alias) do update set index_name = excluded.index_name, "
            "previous_index = excluded.previous_index, mapping_hash = excluded.mapping_hash, "
            "swapped_at = excluded.swapped_at, updated_at = clock_timestamp()",
            {"alias": definition.ALIAS, "after": after, "before": before},
        )
        connection.execute(
            "insert into system.search_swaps (alias, from_index, to_index, reason, run_id) "
            "values (%s, %s, %s, %s, %s)",
            (definition.ALIAS, before, after, reason, run_id),
        )
        connection.execute(
            "update system.search_indices set state = 'kept', replaced_at = clock_timestamp() "
            "where alias = %s and state = 'serving' and index_name <> %s",
            (definition.ALIAS, after),
        )
        connection.execute(
            "update system.search_indices set state = 'serving', replaced_at = null, "
            "swapped_at = coalesce(swapped_at, clock_timestamp()) where index_name = %s",
            (after,),
        )


# -- indices -------------------------------------------------------------------------------------


def begin_index(connection: Connection, name: str, run_id: str) -> None:
    """Recorded before it is made, so that none is ever unknown."""
    connection.execute(
        "insert into system.search_indices (index_name, alias, mapping_hash, state, run_id) "
        "values (%s, %s, %s, 'building', %s)",
        (name, definition.ALIAS, definition.mapping_hash(), run_id),
    )


def indices(connection: Connection, *, removed: bool = False) -> list[Index]:
    """Those that are recorded, the newest first."""
    rows = connection.execute(
        "select index_name, alias, mapping_hash, state, run_id, documents, bytes, started_at, loaded_at, "
        "swapped_at, replaced_at, removed_at, verdicts from system.search_indices "
        "where alias = %s and (%s or state <> 'removed') order by started_at desc, index_name desc",
        (definition.ALIAS, removed),
    ).fetchall()
    return [_index(row) for row in rows]


def _index(row: Sequence[Any]) -> Index:
    failed = tuple(str(each["gate"]) for each in row[12] or () if not each["ok"])
    return Index(*[*row[:12], failed])


def set_state(connection: Connection, name: str, state: State) -> None:
    connection.execute(
        "update system.search_indices set state = %s, "
        "removed_at = case when %s = 'removed' then clock_timestamp() end where index_name = %s",
        (state, state, name),
    )


def set_verdicts(
    connection: Connection,
    name: str,
    state: State,
    verdicts: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
) -> None:
    """What the gates said, with documents and bytes."""
    connection.execute(
        "update system.search_indices set state = %s, verdicts = %s, documents = %s, bytes = %s "
        "where index_name = %s",
        (state, json.dumps(list(verdicts), default=str), *size, name),
    )


def forget(connection: Connection, name: str) -> None:
    """What only made sense while the index was there. Its record stays."""
    with connection.transaction():
        connection.execute("delete from system.search_ranges where index_name = %s", (name,))
        connection.execute("delete from system.sync_state where consumer = %s", (marks.consumer(name),))
        connection.execute(
            "update system.search_dead_letters set resolved_at = clock_timestamp() "
            "where index_name = %s and resolved_at is null",
            (name,),
        )
        set_state(connection, name, "removed")


# -- ranges --------------------------------------------------------------------------------------


def plan_ranges(connection: Connection, name: str, ranges: Iterable[KeyRange]) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            "insert into system.search_ranges (index_name, number, low, high) values (%s, %s, %s, %s)",
            [(name, each.number, each.low, each.high) for each in ranges],
        )


def ranges(connection: Connection, name: str, *, unfinished: bool = False) -> list[KeyRange]:
    return [
        KeyRange(*row)
        for row in connection.execute(
            "select number, low, high from system.search_ranges "
            "where index_name = %s and (not %s or finished_at is null) order by number",
            (name, unfinished),
        )
    ]


def finish_range(connection: Connection, name: str, number: int, documents: int, size: int) -> None:
    connection.execute(
        "update system.search_ranges set documents = %s, bytes = %s, finished_at = clock_timestamp() "
        "where index_name = %s and number = %s",
        (documents, size, name, number),
    )


def set_loaded(connection: Connection, name: str) -> None:
    connection.execute(
        "update system.search_indices set loaded_at = coalesce(loaded_at, clock_timestamp()) "
        "where index_name = %s",
        (name,),
    )


def aliases(index: str) -> dict[str, dict[str, Any]]:
    """Aliases that an index is made with."""
    return {write_alias(index): {}}
