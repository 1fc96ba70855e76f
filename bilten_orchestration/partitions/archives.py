"""Archives of partitions in the repository of backups: one signed document each, written last.

    archives/<store>/<schema.table>/<archive id>/<number>       a Parquet file, encrypted as backups are
    archives/<store>/<schema.table>/<archive id>/archive.json   the document; without it there is no archive

An archive is written once and never changed. Only `archive_retention` of its table's declaration ends it
(expiry.py): no rule of age of backups/retention looks below this prefix. Both stores write the same form, so
the document tells everything that a reader needs who has neither the database nor this program: what it is
of, its columns with the types of the store and of Parquet, rows, digest and how that was computed, versions.

What a kill leaves: objects without a document. They are no archive, and `sweep` removes them after the grace
time of backups, by the object store's own clock.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter, ValidationError

from bilten_orchestration.backups.repository import objects
from bilten_orchestration.backups.repository.bucket import Listed, Repository
from bilten_orchestration.backups.repository.compression import Codec
from bilten_orchestration.backups.repository.keys import KeyRing
from bilten_orchestration.backups.repository.manifest import BackupObject, seal, unseal
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import Mismatch, Problem
from bilten_orchestration.partitions.declared import StoreName
from bilten_orchestration.progress import Progress

ROOT = "archives"
DOCUMENT = "archive.json"
_KIND = "archive"
# below the ten connections that a client keeps
_AT_ONCE = 8
_NEXT = "compare with the second bucket, and see who writes there"


@dataclass(frozen=True, slots=True)
class Column:
    """`type` as the store writes it (numeric(18,3), LowCardinality(String)), `arrow` as pyarrow does.

    `as_text`: the type has no exact match in Arrow (or this partition holds a value that Arrow has not, such
    as an infinite timestamp), so Parquet holds what the store prints. `generated` ones are computed again
    where they are loaded into a table that generates them.
    """

    name: str
    type: str
    arrow: str
    as_text: bool = False
    generated: bool = False


@dataclass(frozen=True, slots=True)
class Archive:
    """One partition as it was.

    `partition` is its name then, `from_at` and `to_at` its bounds (UTC; None: unbounded). `digest` is of
    the rows, by `digest_method`, equal in the table, when it was archived, and in what was read back from
    the bucket, which happened at `proven_at`. `raw_bytes` is the size of the table. `objects` are whole
    Parquet files, in order; `codec` is what was done to them on the way into the store, before encryption.
    `source` is the server (PostgreSQL: the system identifier), `run` Dagster's run, None from the command
    line.
    """

    id: str
    store: StoreName
    table: str
    partition: str
    from_at: datetime | None
    to_at: datetime | None
    columns: tuple[Column, ...]
    rows: int
    digest: str
    digest_method: str
    raw_bytes: int
    codec: Codec
    objects: tuple[BackupObject, ...]
    key_id: str
    source: str
    begun_at: datetime
    proven_at: datetime
    versions: Mapping[str, str]
    run: str | None = None
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def stored_bytes(self) -> int:
        return sum(each.bytes for each in self.objects)

    @property
    def document(self) -> str:
        """Its name in the bucket: what system.partition_metadata.archive_object holds."""
        return f"{place_of(self.store, self.table, self.id)}/{DOCUMENT}"


@dataclass(frozen=True, slots=True)
class Archives:
    """`archives` by lower bound and time; `problems` are documents that are there and cannot be believed."""

    archives: tuple[Archive, ...]
    problems: tuple[Problem, ...]

    def of(self, table: str, from_at: datetime | None, to_at: datetime | None) -> tuple[Archive, ...]:
        """Those of one partition, whatever it was called, the newest first."""
        return tuple(
            sorted(
                (
                    each
                    for each in self.archives
                    if (each.table, each.from_at, each.to_at) == (table, from_at, to_at)
                ),
                key=lambda each: each.begun_at,
                reverse=True,
            )
        )


def new_id(from_at: datetime | None, begun_at: datetime) -> str:
    """Sorts by lower bound and time; the end holds two of one second apart."""
    first = "begin" if from_at is None else f"{from_at.astimezone(UTC):%Y%m%d}"
    return f"{first}-{begun_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def place_of(store: StoreName, table: str, archive_id: str) -> str:
    return f"{ROOT}/{store}/{table}/{archive_id}"


def put(
    opened: Opened, store: StoreName, table: str, archive_id: str, number: int, chunks: Iterable[bytes]
) -> BackupObject:
    """Store one Parquet file. Raises what the object store and `chunks` do; nothing is left then."""
    return opened.put(archive_id, f"{place_of(store, table, archive_id)}/{number:06}", chunks)


def get(opened: Opened, archive: Archive, wanted: BackupObject) -> Iterator[bytes]:
    """A Parquet file as it was put. Raises Mismatch for anything else."""
    return objects.get(opened.repository, opened.cipher, archive.id, wanted, archive.codec)


def add(opened: Opened, archive: Archive) -> None:
    """Make it an archive. Until this is done it does not exist. The caller has proven it."""
    body = _ADAPTER.dump_python(archive, mode="json")
    opened.repository.write_small(archive.document, seal(_KIND, body, opened.ring, archive.key_id))


def read(
    repository: Repository, ring: KeyRing, store: StoreName | None = None, table: str | None = None
) -> Archives:
    """Every archive, or those of a store, or of one of its tables. Raises what the object store does."""
    prefix = "/".join(part for part in (ROOT, store, table) if part)
    names = [each.name for each in repository.list(f"{prefix}/") if each.name.endswith(f"/{DOCUMENT}")]
    found: list[Archive] = []
    problems: list[Problem] = []
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="archives") as pool:
        for name, body in zip(names, pool.map(repository.read_small, names), strict=True):
            try:
                found.append(parse(body, name, ring))
            except Mismatch as error:
                problems.extend(error.problems)
    found.sort(key=lambda each: (each.table, each.from_at or datetime.min.replace(tzinfo=UTC), each.begun_at))
    return Archives(tuple(found), tuple(problems))


def read_one(repository: Repository, ring: KeyRing, name: str) -> Archive:
    """The archive of a document's name, as it is in the bucket now. Raises Mismatch."""
    return parse(repository.read_small(name), name, ring)


def parse(body: bytes, name: str, ring: KeyRing) -> Archive:
    """A document. Raises Mismatch, which names `name`: altered, not ours, or under a lost key."""
    try:
        document = unseal(body, name, ring, _KIND)
        found = _ADAPTER.validate_python(document, strict=False)
    except ValidationError as error:
        raise Mismatch(
            f"{name} is signed and cannot be read",
            expected="the document of an archive",
            found=f"{error.error_count()} fields that do not hold",
            next="use the version of bilten that wrote it",
        ) from None
    if found.document != name:
        raise Mismatch(
            f"{name} lies under another name than its own", expected=found.document, found=name, next=_NEXT
        )
    return found


def require_whole(opened: Opened, name: str, progress: Progress) -> Archive:
    """The archive of that document, after every byte of it was read in the bucket just now.

    Raises Mismatch: no document, one that cannot be believed, an object that is gone or of another SHA-256.
    """
    archive = read_one(opened.repository, opened.ring, name)
    for each in archive.objects:
        progress(f"{archive.partition}: reading {each.name} again, {each.bytes >> 20:,} MiB")
        for _ in objects.checked(opened.repository, each):
            pass
    return archive


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Objects that no document names: an archive is under way, or was killed. `names` of its objects."""

    place: str
    names: tuple[str, ...]
    bytes: int
    written_at: datetime


def unfinished(repository: Repository, store: StoreName | None = None) -> tuple[Unfinished, ...]:
    found: dict[str, list[Listed]] = defaultdict(list)
    for each in repository.list(f"{ROOT}/{store}/" if store else f"{ROOT}/"):
        found[each.name.rpartition("/")[0]].append(each)
    return tuple(
        Unfinished(
            place,
            tuple(each.name for each in left),
            sum(each.bytes for each in left),
            max(each.written_at for each in left),
        )
        for place, left in sorted(found.items())
        if not any(each.name.endswith(f"/{DOCUMENT}") for each in left)
    )


def sweep(repository: Repository, grace: timedelta, progress: Progress, store: StoreName) -> int:
    """Remove what was unfinished for `grace`, by the store's clock; how many bytes. The caller holds the
    lock `partitions`, so that none of it is under way on any machine."""
    now, removed = repository.clock(), 0
    for left in unfinished(repository, store):
        if now - left.written_at < grace:
            continue
        if repository.find(f"{left.place}/{DOCUMENT}") is not None:
            continue
        progress(f"removing {left.place}: an archive that was killed, {left.bytes >> 20:,} MiB")
        for name in left.names:
            repository.remove(name)
        removed += left.bytes
    return removed


_ADAPTER: TypeAdapter[Archive] = TypeAdapter(Archive)
