"""What changed since the last time, into the index that serves. Every five minutes, or at will.

Idempotent: it sends events as they are, under a number above all before, and a second call finds nothing new.
What was deleted or is not public any more is deleted there. A kill leaves what batch.py says.

After a restore of PostgreSQL, or on a wrong address, it stops and tells what going on would change. Told to
accept, it writes every document again, above every number that the index has seen, and deletes the rest:
transaction ids of two epochs cannot be compared, so nothing less would do. Killed in between, it is refused
again, and accepted again: the mark is only set once all of it is in.
"""

from __future__ import annotations

from dataclasses import dataclass

from bilten_orchestration.errors import Mismatch, Problem, Refused
from bilten_orchestration.ingestion import source
from bilten_orchestration.ingestion.state import next_batch, read_epoch
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.search import definition, marks, state
from bilten_orchestration.search.batch import (
    Applied,
    Pinned,
    Work,
    caught_up,
    open_work,
    pinned,
    unknown_fields,
    writing,
)
from bilten_orchestration.search.comparison import Compared, compare_all
from bilten_orchestration.search.opened import Opened, opened
from bilten_orchestration.search.repair import repair_documents
from bilten_orchestration.settings import Settings


@dataclass(frozen=True, slots=True)
class DeltaReport:
    """One batch into the index that serves. `accepted`: every document was written again; `removed` then."""

    applied: Applied
    accepted: bool = False
    removed: int = 0
    dead_letters: int = 0

    @property
    def problems(self) -> list[Problem]:
        if not self.dead_letters:
            return []
        return [
            Problem(
                f"{self.applied.index} refuses documents",
                expected="no dead letters",
                found=f"{self.dead_letters}; the rest is in",
                next="select * from system.search_dead_letters where resolved_at is null",
            )
        ]


def delta(
    settings: Settings,
    *,
    accept_epoch: bool = False,
    run_id: str = "bilten search delta",
    progress: Progress = silent,
) -> DeltaReport:
    """Raises Refused (no index yet; another epoch, with what accepting it would change), LockHeld."""
    with opened(settings, "the delta") as stores:
        index = serving_index(stores, run_id)
        try:
            work = open_work(
                settings,
                stores.connection,
                stores.client,
                index,
                progress=progress,
                helps="bilten search delta --accept-epoch, or bilten search reindex --accept-epoch, "
                "if this is the right server",
            )
        except Refused as refused:
            if accept_epoch:
                return _accepted(settings, stores, index, progress)
            raise Refused([*refused.problems, *_would_change(settings, stores, index, progress)]) from None
        with caught_up(work) as found:
            return DeltaReport(found.applied, dead_letters=len(found.without))


def serving_index(stores: Opened, run_id: str) -> str:
    """The index behind the alias, written down where it was not. Raises Refused when there is none."""
    index = state.settle(stores.connection, stores.client, run_id)
    if index is None:
        raise Refused(
            f"{definition.ALIAS} does not exist",
            expected="an index behind it",
            found="none: nothing was built yet",
            next="bilten search reindex",
        )
    return index


def _unchecked(settings: Settings, stores: Opened, index: str, progress: Progress) -> Work:
    epoch = read_epoch(stores.connection)
    return Work(
        settings,
        stores.connection,
        stores.client,
        index,
        epoch,
        unknown_fields(stores.client, index),
        progress=progress,
    )


def _would_change(settings: Settings, stores: Opened, index: str, progress: Progress) -> list[Problem]:
    """Reads only."""
    progress(f"{index} and PostgreSQL disagree about the epoch; working out what accepting it would change")
    work = _unchecked(settings, stores, index, progress)
    with source.open_snapshot(settings) as (reading, snapshot):
        found = compare_all(Pinned(work, reading, snapshot, None, ()))
    return [
        Problem(
            f"nothing was written; accepting would change {found.differing:,} documents of {index}",
            expected=f"{found.documents_postgres:,} searchable events in PostgreSQL",
            found=f"{found.documents_opensearch:,} documents: add {found.missing:,}, change "
            f"{found.changed:,}, remove {found.extra:,}",
            next="if BILTEN_POSTGRES__HOST is the right server: bilten search delta --accept-epoch",
        )
    ]


def _accepted(settings: Settings, stores: Opened, index: str, progress: Progress) -> DeltaReport:
    work = _unchecked(settings, stores, index, progress)
    with writing(work):
        known, has = marks.followed(stores.connection, index), marks.carried(stores.client, index)
        above = max(has.batch, known.batch, known.applying_batch or 0)
        next_batch(stores.connection, above, raise_it=True)
        removed = 0
        with pinned(work, whole=True) as found:
            applied, extra = found.applied, _extra(found)
        while extra:
            progress(f"{index}: {len(extra):,} documents are of another past")
            applied, left = repair_documents(work, extra)
            if left.differing:
                raise Mismatch(
                    f"{index} keeps documents of another past",
                    expected="none that PostgreSQL does not have",
                    found=f"{left.differing:,}: {left.differences[0].document_id} and so on",
                    next="bilten search reindex",
                )
            removed += len(extra)
            with pinned(work) as found:
                applied, extra = found.applied, _extra(found)
        return DeltaReport(applied, True, removed, len(found.without))


def _extra(found: Pinned) -> list[str]:
    """Documents that PostgreSQL does not have, at most MOST_DIFFERENCES at once."""
    compared: Compared = compare_all(found)
    return [each.document_id for each in compared.differences if each.state == "extra"]
