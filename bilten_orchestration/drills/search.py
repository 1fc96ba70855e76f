"""The drill of search: it has no backup, so what is proven is that it can be built from PostgreSQL's.

    postgres   the newest PostgreSQL that comes back, to the end of WAL as it is stored, in the drill's place
    index      one of the drill's own, made, loaded and made ready by the functions of every rebuild, without
               replicas. Its name begins with PREFIX, as that of no index that serves does
               (search/definition.py), and the alias is never asked to move. What a rebuild keeps beside the
               index (its record, ranges, marks, dead letters, batch numbers, locks) it keeps in the
               PostgreSQL that it is built from: here the restored one, which ends with the drill.
               Production's search_state, lease and marks are those of the live index, before and after
    gates      those of a rebuild, against the restored PostgreSQL. Not the one of sizes: it guards the live
               index against being replaced, and says nothing that a comparison of contents does not
    live       the same documents as the index that serves, where that is exact (search_live.py)

What would have been lost is what PostgreSQL would have lost; the time to recover runs until the new index
answers a search. The projection takes an index to grow as PostgreSQL does.

What a kill leaves: files and a server in the drill's place (scratch.py), and at most the index, at any step
since it was made. It is behind no alias of the application, so nobody sees it; whoever takes the drill's
place next removes it, and so does every drill at its end, before its attestation (held.py). Two drills at
once are held apart by the lock of the store's drills; while PostgreSQL is away, on this machine alone: then
one of two machines loses the index of its drill to the other, and fails.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bilten_orchestration.backups.postgres import private
from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.drills import search_live
from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.falls import fall
from bilten_orchestration.drills.marts import NothingToCompare, without_evidence
from bilten_orchestration.drills.postgres.restored import restored
from bilten_orchestration.drills.promises import AGREED_DOCUMENTS
from bilten_orchestration.drills.report import Proof
from bilten_orchestration.errors import Mismatch, Refused, TransientError
from bilten_orchestration.ingestion.state import read_epoch
from bilten_orchestration.progress import Progress
from bilten_orchestration.search import definition, gates, loading, query, room, state
from bilten_orchestration.search.batch import Work, caught_up
from bilten_orchestration.search.gates import Judged
from bilten_orchestration.search.opened import ANSWER_SECONDS, opened
from bilten_orchestration.search.request import SearchRequest
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import opensearch

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

    from bilten_orchestration.stores.postgres import Connection

PREFIX: Final = "drill-events-"
GATES: Final = tuple(gate for gate in gates.GATES if gate is not gates.size)
# what is merged lies there twice for a while
_GROWS: Final = 2
_AS_LIVE: Final = "documents are those of the live index"
_EVENTS_BYTES: Final = "select pg_total_relation_size('events.events')"


def walk(settings: Settings, way: str, place: Path, course: Course, *, progress: Progress) -> None:
    """Fills the course. Raises Refused (too little disk, below OpenSearch or here), and what a restore and a
    rebuild raise."""
    with _connected(settings) as client:
        with course.phase("room"):
            live = state.serving(client)
            if live is not None:
                needed = _GROWS * gates.size_of(client, live)[1]
                room.refuse_without_room(client, needed, "a drill of search")
        with restored(
            settings, Target("latest"), place / "postgres", course, bucket="first", progress=progress
        ) as server:
            course.rto_seconds = None  # PostgreSQL answers; it is search that is waited for
            socket = str(server.running.socket)
            ours = settings.model_copy(
                update={
                    "postgres": settings.postgres.model_copy(update={"host": socket, "port": private.PORT})
                }
            )
            _built(settings, ours, live, course, progress)


def _built(settings: Settings, ours: Settings, live: str | None, course: Course, progress: Progress) -> None:
    """`ours` are production's settings with the restored PostgreSQL in its place."""
    with opened(ours, "the drill of search", loads=True) as stores:
        if live is None:
            with course.phase("room"):
                _refuse_without_room(stores.connection, stores.client)
        index = _name(datetime.now(UTC))
        with course.phase("load"):
            loading.make(stores.connection, stores.client, index, "bilten drill run search")
            progress(f"building {index}")
            epoch = read_epoch(stores.connection)
            work = Work(ours, stores.connection, stores.client, index, epoch, progress=progress)
            loaded = loading.fill(work)
            loading.ready(work, replicas=0)
        with course.phase("first_query"):
            query.search(ours.opensearch, stores.client, SearchRequest(), index=index, seconds=ANSWER_SECONDS)
        course.first_query()
        documents, size = gates.size_of(stores.client, index)
        course.counts = {"documents": documents}
        course.figures |= {
            "documents": documents,
            "index_bytes": size,
            "documents_per_second": loaded.documents / max(loaded.seconds, 1e-3),
        }
        with course.phase("proof"):
            _prove(work, course)
            course.prove(fall(course.previous, course.counts, "documents", settings.drills.fall_percent))
        with course.phase("agree"):
            _agree(settings, work, live, course, progress)


def _prove(work: Work, course: Course) -> None:
    """The restored PostgreSQL stands still, so one batch brings the index to exactly what it shows."""
    with caught_up(work) as pinned:
        course.figures["dead_letters"] = len(pinned.without)
        for verdict in gates.judge(Judged(pinned, None), GATES):
            shown = f": {'; '.join(verdict.sample)}" if verdict.sample and not verdict.ok else ""
            course.prove(
                Proof(
                    f"gate {verdict.gate}",
                    verdict.ok,
                    verdict.expected,
                    f"{verdict.found}{shown}",
                    verdict.seconds,
                )
            )


def _agree(settings: Settings, work: Work, live: str | None, course: Course, progress: Progress) -> None:
    began = time.monotonic()
    try:
        found = search_live.agree(
            settings, work.connection, work.client, index=work.index, live=live, progress=progress
        )
    except (NothingToCompare, Refused, TransientError) as error:
        course.prove(without_evidence(_AS_LIVE, error, began))
        return
    course.figures |= {AGREED_DOCUMENTS: found.compared, "documents_changed_since": found.left_out}
    named = ", ".join(f"{each.document_id} {each.state}" for each in found.sample[:3])
    course.prove(
        Proof(
            _AS_LIVE,
            not found.differing,
            f"{found.compared:,} documents that production has not changed since, the same in both",
            f"{found.differing:,} of them differ: {named}" if found.differing else "all equal",
            time.monotonic() - began,
        )
    )


def sweep(settings: Settings, progress: Progress) -> tuple[str, ...]:
    """Remove the indices that drills have made, by who holds the lock of search's drills; their names.

    Raises Mismatch for one that somebody has put behind the application's alias, and what the store raises.
    """
    with _connected(settings) as client:
        found = client.indices.get_alias(index=f"{PREFIX}*")
        for name, carried in sorted(found.items()):
            if definition.ALIAS in carried["aliases"]:
                raise Mismatch(
                    f"{definition.ALIAS} is on the index of a drill",
                    expected=f"an index {definition.PREFIX}*",
                    found=name,
                    next="bilten search reindex makes one that is kept up",
                )
            progress(f"removing {name}, an index of a drill")
            client.indices.delete(index=name)
    return tuple(sorted(found))


def _refuse_without_room(connection: Connection, client: OpenSearch) -> None:
    """Where nothing serves that tells how large an index is: as its rows are."""
    row = connection.execute(_EVENTS_BYTES).fetchone()
    assert row is not None  # noqa: S101
    room.refuse_without_room(client, _GROWS * int(row[0]), "a drill of search")


def _name(at: datetime) -> str:
    """Not of the pattern of indices that serve (definition.PREFIX), and to the millisecond."""
    return f"{PREFIX}{definition.mapping_hash()}-{at:%Y%m%dt%H%M%S%f}"[:-3]


@contextmanager
def _connected(settings: Settings) -> Iterator[OpenSearch]:
    doing = "the drill of search"
    with opensearch.translated(settings.opensearch, doing):
        client = opensearch.connect(settings.opensearch, timeout_seconds=ANSWER_SECONDS)
        try:
            yield client
        finally:
            client.close()
