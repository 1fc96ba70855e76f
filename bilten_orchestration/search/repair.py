"""Documents that differ, brought to what PostgreSQL has, whoever wrote them.

 1  one that is no event's (its name is no uuid) is removed by its name: PostgreSQL knows no such row, and no
    batch would ever name it
 2  the others are sent again in a batch, or deleted by it, under its number
 3  one whose version is above that number (somebody wrote it with one of his own) takes neither: numbers are
    raised above the highest that is found, and the batch comes again. Numbers only have to rise

A kill leaves what batch.py says; what was not repaired still differs, and is found by the next comparison.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from bilten_orchestration.errors import Mismatch
from bilten_orchestration.ingestion.state import next_batch
from bilten_orchestration.search.batch import Applied, Work, pinned
from bilten_orchestration.search.comparison import PAGE, Compared, compare_these, is_event

# above it nothing could be raised: versions end at 2^63
_HIGHEST = 1 << 60


def repair_documents(work: Work, names: Collection[str]) -> tuple[Applied, Compared]:
    """The last batch, and what differs still. The caller holds `writing`. Raises as a batch does."""
    events = {name for name in names if is_event(name)}
    _remove(work, sorted(set(names) - events))
    with pinned(work, also=events) as found:
        applied, left = found.applied, compare_these(found, events)
    newest = max(_versions(work, [each.document_id for each in left.differences]), default=0)  # 3
    if not applied.batch <= newest < _HIGHEST:
        return applied, left
    work.progress(f"{work.index}: documents of version {newest:,}; batch numbers are raised above it")
    next_batch(work.connection, newest, raise_it=True)
    with pinned(work, also=events) as found:
        return found.applied, compare_these(found, events)


def _remove(work: Work, strangers: list[str]) -> None:
    for start in range(0, len(strangers), PAGE):
        answer = work.client.bulk(
            index=work.index,
            body=[{"delete": {"_id": name}} for name in strangers[start : start + PAGE]],
            params={"refresh": "true"},
        )
        refused = [item["delete"] for item in answer["items"] if item["delete"]["status"] not in (200, 404)]
        if refused:
            raise Mismatch(
                f"{work.index} does not let go of documents that are no events",
                expected=f"{len(answer['items'])} removed",
                found=f"{len(refused)} refused, the first: {str(refused[0])[:300]}",
                next="remove them by hand; or bilten search reindex",
            )


def _versions(work: Work, names: list[str]) -> Iterator[int]:
    """Those of the documents that are there."""
    for start in range(0, len(names), PAGE):
        answer: dict[str, Any] = work.client.mget(
            index=work.index,
            body={"ids": names[start : start + PAGE]},
            params={"_source": "false"},
        )
        yield from (int(doc["_version"]) for doc in answer["docs"] if doc["found"])
