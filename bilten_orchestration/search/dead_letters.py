"""Documents that OpenSearch refused for what they are, in system.search_dead_letters.

One open row per index and document; it is resolved when the document goes through, or its index is removed.
Bounded: a mapping that refuses everything must not fill PostgreSQL with it.
"""

from __future__ import annotations

from typing import Final

from bilten_orchestration.errors import Mismatch
from bilten_orchestration.search.bulk import Sent
from bilten_orchestration.stores.postgres import Connection

MOST_OPEN: Final = 1_000


def open_letters(connection: Connection, index: str) -> list[str]:
    """Ids of the documents that the index does not have as they are."""
    return [
        str(document)
        for (document,) in connection.execute(
            "select document_id from system.search_dead_letters "
            "where index_name = %s and resolved_at is null order by document_id",
            (index,),
        )
    ]


def record(connection: Connection, index: str, batch: int, sent: Sent) -> None:
    """Keep what was refused, and resolve what was taken since. Mismatch when more than MOST_OPEN are open."""
    if not sent.dead and not sent.took:
        return
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            "insert into system.search_dead_letters as d (index_name, document_id, reason, status, batch) "
            "values (%s, %s, %s, %s, %s) on conflict (index_name, document_id) where resolved_at is null "
            "do update set reason = excluded.reason, status = excluded.status, batch = excluded.batch",
            [(index, each.document_id, each.reason, each.status, batch) for each in sent.dead],
        )
        cursor.execute(
            "update system.search_dead_letters set resolved_at = clock_timestamp() "
            "where index_name = %s and resolved_at is null and document_id = any(%s)",
            (index, sent.took),
        )
    row = connection.execute(
        "select count(*), min(reason) from system.search_dead_letters "
        "where index_name = %s and resolved_at is null",
        (index,),
    ).fetchone()
    assert row is not None  # noqa: S101
    if row[0] > MOST_OPEN:
        raise Mismatch(
            f"{index} refuses documents",
            expected=f"at most {MOST_OPEN} dead letters",
            found=f"{row[0]}, one of them for: {row[1]}",
            next="system.search_dead_letters has the reasons; a mapping that does not fit wants a rebuild",
        )
