"""How far each index has come: its row in system.sync_state, and what it carries itself.

The row is that of the consumer `search:<index>`: mark and snapshot, as the sync to ClickHouse has them. The
index itself knows the highest batch that was ever begun on it (_meta.bilten): after a restore of PostgreSQL,
its state and its sequence have gone back, and the index has not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from bilten_orchestration.errors import Problem
from bilten_orchestration.ingestion.source import Snapshot
from bilten_orchestration.ingestion.state import Epoch, SyncState, begin_applying, finish, read
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

_META: Final = "bilten"


@dataclass(frozen=True, slots=True)
class Carried:
    """What an index knows of the batches begun on it; batch 0 where it knows none."""

    batch: int = 0
    epoch: Epoch | None = None


def consumer(index: str) -> str:
    """Name of the index in system.sync_state."""
    return f"search:{index}"


def followed(connection: Connection, index: str) -> SyncState:
    """How far the index has come."""
    return read(connection, consumer(index))


def begin_batch(connection: Connection, index: str, batch: int) -> None:
    """Committed before the first write of a batch."""
    begin_applying(connection, batch, {}, (), consumer(index))


def finish_batch(connection: Connection, index: str, batch: int, snapshot: Snapshot, epoch: Epoch) -> None:
    """The index holds everything that the snapshot shows."""
    finish(
        connection,
        batch=batch,
        mark=snapshot.mark,
        snapshot=snapshot.text,
        epoch=epoch,
        as_of=snapshot.as_of,
        touched={},
        consumer=consumer(index),
    )


def carried(client: OpenSearch, index: str) -> Carried:
    """What the index says of itself."""
    meta = _meta(client, index).get(_META)
    if not meta:
        return Carried()
    return Carried(int(meta["batch"]), Epoch(**meta["epoch"]))


def carry(client: OpenSearch, index: str, batch: int, epoch: Epoch) -> None:
    """Before the first write of a batch: no version in the index is above this."""
    meta = _meta(client, index) | {_META: {"batch": batch, "epoch": asdict(epoch)}}
    client.indices.put_mapping(index=index, body={"_meta": meta})


def _meta(client: OpenSearch, index: str) -> dict[str, Any]:
    mapping = client.indices.get_mapping(index=index)
    meta: dict[str, Any] = mapping[index]["mappings"].get("_meta", {})
    return meta


def both(connection: Connection, client: OpenSearch, index: str) -> tuple[SyncState, Carried]:
    """What PostgreSQL knows of the index and what it carries, while others may write it.

    The index first: a batch is begun in PostgreSQL before the index carries it. The other way round, one that
    begins in between looks like a batch that PostgreSQL has forgotten.
    """
    has = carried(client, index)
    return followed(connection, index), has


def disagreements(known: SyncState, index: str, has: Carried, epoch: Epoch) -> list[Problem]:
    """Why this PostgreSQL is not the one, or not at the moment, that the index shows; empty when it is."""
    problems = []
    newest = max(known.batch, known.applying_batch or 0)
    if has.batch > newest:
        problems.append(
            Problem(
                f"{index} holds a batch that PostgreSQL does not remember",
                expected=f"none above {newest}" if newest else "none",
                found=f"batch {has.batch}",
            )
        )
    if known.batch == 0:
        problems.append(
            Problem(
                f"PostgreSQL does not remember how far {index} has come",
                expected=f"a row in system.sync_state for {consumer(index)}",
                found="none",
            )
        )
    for where, theirs in (("PostgreSQL's search state", known.epoch), (index, has.epoch)):
        if theirs is not None and theirs != epoch:
            problems.append(
                Problem(
                    f"{where} belongs to another epoch of PostgreSQL", expected=str(theirs), found=str(epoch)
                )
            )
    return problems
