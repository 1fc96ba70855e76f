"""The index that serves against the definition in the code: nothing to do, an addition in place, a rebuild.

A field that is new is added to the live mapping, and every document is written again with it, as one batch:
whoever looks for the field meanwhile finds those that have it already, and nothing else changes. Everything
else takes a rebuild, which is not done here.

What a kill leaves behind. The numbers are those in the code.

 1  the fields are there, the hash is the old one: the difference is that of the hash, and the same is
    done again
 2  some documents are written, the hash is the old one: as 1
 3  the hash is the new one in OpenSearch and not in PostgreSQL's record, which follows at the next call
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bilten_orchestration.errors import Refused
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.search import batch, definition, state
from bilten_orchestration.search.definition import Difference, Step
from bilten_orchestration.search.opened import opened
from bilten_orchestration.settings import Settings

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

    from bilten_orchestration.stores.postgres import Connection


@dataclass(frozen=True, slots=True)
class MappingReport:
    """`index` serves, None where none does; `step` is what it takes, or took if `documents` were written."""

    index: str | None
    step: Step
    live_hash: str
    wanted_hash: str
    changes: tuple[str, ...]
    documents: int = 0
    seconds: float = 0.0


def examine(settings: Settings) -> MappingReport:
    """Look, and change nothing. Raises StoreUnavailable."""
    with opened(settings, "a look at the mapping") as stores:
        return _report(*_difference(stores.client))


def add(settings: Settings, *, progress: Progress = silent) -> MappingReport:
    """Add what is missing in place, where that is enough. Raises Refused (a rebuild is needed), LockHeld."""
    started = time.monotonic()
    with opened(settings, "an addition to the mapping", loads=True) as stores:
        index, found = _difference(stores.client)
        if index is None or found.step is Step.REBUILD:
            raise Refused(
                "the mapping cannot be brought up in place",
                expected="an index that lacks nothing but fields",
                found=found.text if index else "no index behind the alias",
                next="bilten search reindex",
            )
        if found.step is Step.NOTHING:
            _record(stores.connection, index)
            return _report(index, found)
        for change in found.changes:
            progress(str(change))
        stores.client.indices.put_mapping(  # 1
            index=index, body={"dynamic": "strict", "properties": definition.FIELDS}
        )
        work = batch.open_work(settings, stores.connection, stores.client, index, progress=progress)
        with (
            batch.writing(work),
            batch.pinned(work, whole=True) as pinned,  # 2
        ):
            _set_hash(stores.client, index)  # 3
        _record(stores.connection, index)
        return _report(index, found, pinned.applied.operations, time.monotonic() - started)


def _difference(client: OpenSearch) -> tuple[str | None, Difference]:
    index = state.serving(client)
    if index is None:
        return None, Difference("", definition.mapping_hash(), ())
    live: dict[str, Any] = client.indices.get(index=index)[index]
    return index, definition.difference(live)


def _report(
    index: str | None, found: Difference, documents_written: int = 0, seconds: float = 0.0
) -> MappingReport:
    return MappingReport(
        index=index,
        step=found.step if index else Step.REBUILD,
        live_hash=found.live_hash,
        wanted_hash=found.wanted_hash,
        changes=tuple(map(str, found.changes)) if index else ("there is no index yet",),
        documents=documents_written,
        seconds=round(seconds, 3),
    )


def _set_hash(client: OpenSearch, index: str) -> None:
    """Beside what the index carries already, for _meta is replaced as a whole."""
    mapping = client.indices.get_mapping(index=index)[index]["mappings"]
    meta = mapping.get("_meta", {}) | {"mapping_hash": definition.mapping_hash()}
    client.indices.put_mapping(index=index, body={"_meta": meta})


def _record(connection: Connection, index: str) -> None:
    connection.execute(
        "update system.search_indices set mapping_hash = %s where index_name = %s",
        (definition.mapping_hash(), index),
    )
    connection.execute(
        "update system.search_state set mapping_hash = %s where alias = %s and index_name = %s",
        (definition.mapping_hash(), definition.ALIAS, index),
    )
