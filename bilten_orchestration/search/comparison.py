"""OpenSearch against PostgreSQL in one snapshot: numbers per status and organizer, hashes per key range.

Both sides give, per range of keys, the number of documents and the sum of a 60-bit hash of each content.
PostgreSQL computes its own from rows; on the other side it is computed anew from every _source that comes
back, so what a document says about itself proves nothing. Adding up, unlike XOR, tells two equal documents
from none. Only ranges that differ are compared document by document, so memory does not grow with the index.
Documents that are not ours (without an id, or under another name than that) are found beside them.

The index must hold what the snapshot shows, and stay so meanwhile: see batch.pinned.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from psycopg import sql

from bilten_orchestration.ingestion import source
from bilten_orchestration.search import documents
from bilten_orchestration.search.batch import Pinned
from bilten_orchestration.search.documents import KeyRange
from bilten_orchestration.search.hashes import content_hash
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

PAGE = 2_000
# of the contents of one page: descriptions may be long, and a node has room for few such answers
PAGE_BYTES = 4 << 20
FIRST_PAGE = 100
SAMPLE = 20
MOST_DIFFERENCES = 10_000
_WHOLE = {"allow_partial_search_results": "false"}  # a shard that fails would look like missing documents

DocumentState = Literal["missing", "extra", "changed"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One document: `missing` in OpenSearch, `extra` there, or `changed`."""

    document_id: str
    state: DocumentState


@dataclass(frozen=True, slots=True)
class Compared:
    """`documents_*` are of each side; of `differences` MOST_DIFFERENCES are kept, the counts are exact."""

    ranges: int
    documents_postgres: int
    documents_opensearch: int
    missing: int = 0
    extra: int = 0
    changed: int = 0
    differences: tuple[Difference, ...] = ()

    @property
    def equal(self) -> bool:
        return self.differing == 0 and self.documents_postgres == self.documents_opensearch

    @property
    def differing(self) -> int:
        return self.missing + self.extra + self.changed

    def __add__(self, other: Compared) -> Compared:
        return Compared(
            self.ranges + other.ranges,
            self.documents_postgres + other.documents_postgres,
            self.documents_opensearch + other.documents_opensearch,
            self.missing + other.missing,
            self.extra + other.extra,
            self.changed + other.changed,
            (self.differences + other.differences)[:MOST_DIFFERENCES],
        )


def compare_all(pinned: Pinned) -> Compared:
    """Every document, range by range, as many ranges at once as a load has readers."""
    search = pinned.work.settings.search
    ranges = documents.key_ranges(pinned.connection, search.range_documents)
    connections: list[Connection] = []

    def one(keys: KeyRange) -> Compared:
        connection = connections.pop()
        try:
            return _compare(pinned, connection, keys)
        finally:
            connections.append(connection)

    at_once = min(search.parallel, len(ranges))
    with _readers(pinned, at_once) as opened, ThreadPoolExecutor(at_once, "search-compare") as pool:
        connections += opened
        return sum(pool.map(one, ranges), _nameless(pinned))


def _nameless(pinned: Pinned) -> Compared:
    """Documents without an id: no range of keys has them."""
    answer = pinned.work.client.search(
        index=pinned.work.index,
        body={
            "query": {"bool": {"must_not": {"exists": {"field": "id"}}}},
            "size": MOST_DIFFERENCES,
            "track_total_hits": True,
            "_source": False,
        },
        params=_WHOLE,
    )
    found = [hit["_id"] for hit in answer["hits"]["hits"]]
    number = int(answer["hits"]["total"]["value"])
    return Compared(0, 0, number, extra=number, differences=tuple(Difference(key, "extra") for key in found))


@contextmanager
def _readers(pinned: Pinned, number: int) -> Iterator[list[Connection]]:
    """So many connections that see what `pinned` shows, its own among them."""
    with ExitStack() as stack:
        beside = [
            stack.enter_context(source.import_snapshot(pinned.work.settings, pinned.snapshot))
            for _ in range(number - 1)
        ]
        yield [pinned.connection, *beside]


def is_event(name: str) -> bool:
    """Whether a document of this name can be one of ours."""
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False


def compare_these(pinned: Pinned, names: Collection[str]) -> Compared:
    """The documents of these names alone."""
    listed = sorted(names)
    statement = sql.SQL("{} and e.id = any({}::uuid[])").format(
        documents.hashes(None, pinned.work.omitted, pinned.without),
        sql.Literal([name for name in listed if is_event(name)]),
    )
    ours: dict[str, int] = dict(pinned.connection.execute(statement).fetchall())
    theirs: dict[str, int] = {}
    for start in range(0, len(listed), PAGE):
        answer = pinned.work.client.mget(
            index=pinned.work.index, body={"ids": listed[start : start + PAGE]}, params={"realtime": "false"}
        )
        theirs |= {doc["_id"]: _hash(doc) for doc in answer["docs"] if doc["found"]}
    for known in pinned.without:
        theirs.pop(known, None)
    return _compared(ours, theirs)


def sampled(client: OpenSearch, index: str, size: int, seed: int) -> set[str]:
    """Ids of about `size` documents of the index, as `seed` has it."""
    answer = client.search(
        index=index,
        body={
            "query": {"function_score": {"random_score": {"seed": seed, "field": "id"}}},
            "size": min(size, 10_000),
            "_source": False,
        },
        params=_WHOLE,
    )
    return {hit["_id"] for hit in answer["hits"]["hits"]}


def counts_differ(pinned: Pinned) -> tuple[int, int, list[str]]:
    """(groups in PostgreSQL, groups that differ, a sample of these): documents per status and organizer."""
    groups = differ = 0
    sample: list[str] = []
    with pinned.connection.cursor("search_counts") as ours:
        ours.execute(documents.counts(pinned.without))
        for key, mine, theirs in _merged(ours, _counts(pinned)):
            groups += mine is not None
            if mine != theirs:
                differ += 1
                if len(sample) < SAMPLE:
                    status, organizer = key
                    sample.append(f"{status}, {organizer}: {mine or 0} expected, {theirs or 0} found")
    return groups, differ, sample


_Group = tuple[tuple[str, str], int]


def _counts(pinned: Pinned) -> Iterator[_Group]:
    """Groups of the index in order, by pages: their number is bounded by nothing."""
    sources = [{name: {"terms": {"field": name}}} for name in ("status", "organizer_id")]
    after: dict[str, Any] = {}
    while True:
        answer = pinned.work.client.search(
            index=pinned.work.index,
            body={
                "size": 0,
                "query": {"bool": {"must_not": {"terms": {"id": list(pinned.without)}}}},
                "aggs": {"groups": {"composite": {"size": PAGE, "sources": sources} | after}},
            },
            params=_WHOLE,
        )
        found = answer["aggregations"]["groups"]
        for bucket in found["buckets"]:
            yield (bucket["key"]["status"], bucket["key"]["organizer_id"]), int(bucket["doc_count"])
        if "after_key" not in found:
            return
        after = {"after": found["after_key"]}


def _merged(ours: Any, theirs: Iterator[_Group]) -> Iterator[tuple[tuple[str, str], int | None, int | None]]:
    """Both sides by their key, in its order."""
    mine = ((row[0], row[1]), int(row[2])) if (row := next(ours, None)) else None
    other = next(theirs, None)
    while mine is not None or other is not None:
        if other is None or (mine is not None and mine[0] < other[0]):
            assert mine is not None  # noqa: S101
            yield mine[0], mine[1], None
            step_ours, step_theirs = True, False
        elif mine is None or other[0] < mine[0]:
            yield other[0], None, other[1]
            step_ours, step_theirs = False, True
        else:
            yield mine[0], mine[1], other[1]
            step_ours = step_theirs = True
        if step_ours:
            mine = ((row[0], row[1]), int(row[2])) if (row := next(ours, None)) else None
        if step_theirs:
            other = next(theirs, None)


def _compare(pinned: Pinned, connection: Connection, keys: KeyRange) -> Compared:
    pinned.work.check()
    hashes = documents.hashes(keys, pinned.work.omitted, pinned.without)
    row = connection.execute(
        sql.SQL("select count(*), coalesce(sum(hash), 0) from ({}) h").format(hashes)
    ).fetchone()
    assert row is not None  # noqa: S101
    theirs = {
        name: value
        for name, value in index_hashes(pinned.work.client, pinned.work.index, keys)
        if name not in pinned.without
    }
    if (int(row[0]), int(row[1])) == (len(theirs), sum(theirs.values())):
        return Compared(1, len(theirs), len(theirs))
    ours: dict[str, int] = dict(connection.execute(hashes).fetchall())
    return _compared(ours, theirs)


def index_hashes(client: OpenSearch, index: str, keys: KeyRange) -> Iterator[tuple[str, int]]:
    """(id, hash of the content) of every document of the range, by pages in the order of keys."""
    bounds = {"gte": keys.low, "lt": keys.high}
    within = {name: str(bound) for name, bound in bounds.items() if bound is not None}
    after: dict[str, Any] = {}
    size = FIRST_PAGE
    asked: dict[str, Any] = {"range": {"id": within}} if within else {"exists": {"field": "id"}}
    while True:
        answer = client.search(
            index=index,
            body={
                "query": asked,
                "sort": [{"id": "asc"}],
                "size": size,
                "track_total_hits": False,
            }
            | after,
            params=_WHOLE,
        )
        hits = answer["hits"]["hits"]
        length = 0
        for hit in hits:
            length += sum(len(value) for value in hit["_source"].values() if isinstance(value, str))
            yield hit["_id"], _hash(hit)
        if len(hits) < size:
            return
        after = {"search_after": hits[-1]["sort"]}
        size = max(1, min(PAGE, PAGE_BYTES * size // max(length, 1)))


def _hash(found: Mapping[str, Any]) -> int:
    """Of a document under its own name; no document of PostgreSQL has 0, but for one in 2^60."""
    source = found["_source"]
    return content_hash(source) if source.get("id") == found["_id"] else 0


def _compared(ours: dict[str, int], theirs: dict[str, int]) -> Compared:
    missing = sorted(ours.keys() - theirs.keys())
    extra = sorted(theirs.keys() - ours.keys())
    changed = sorted(key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key])
    named: dict[DocumentState, list[str]] = {"missing": missing, "extra": extra, "changed": changed}
    return Compared(
        1,
        len(ours),
        len(theirs),
        len(missing),
        len(extra),
        len(changed),
        tuple(Difference(key, state) for state, keys in named.items() for key in keys)[:MOST_DIFFERENCES],
    )
