"""What the repository says of a backup: one document, signed, written last and never changed.

Everything that a restore, an audit or retention needs to know is here, so that they work when every
database is lost. What becomes known later (verified, drilled, expired) are marks: documents beside it.

Signed by HMAC-SHA-256 under a key derived from the key that the backup is encrypted under: who can write
into the bucket, and has no key, can destroy backups but not forge one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from bilten_orchestration.backups.repository.compression import Codec
from bilten_orchestration.backups.repository.keys import KeyRing
from bilten_orchestration.backups.repository.tar_slices import Continues
from bilten_orchestration.errors import Mismatch

Store = Literal["postgres", "clickhouse", "redis"]
Kind = Literal["full", "incremental", "logical"]
#: Who encrypts the objects: we, as messages of the AWS Encryption SDK, or ClickHouse's encrypted disk.
Sealing = Literal["sdk", "clickhouse"]
MarkName = Literal["verified", "drilled", "expired"]
FORMAT = 1
_DERIVATION = b"bilten manifest signature 1"


@dataclass(frozen=True, slots=True)
class WalRange:
    """WAL that a backup needs to be consistent: from `begin_lsn` (inclusive) to `end_lsn`, as PostgreSQL
    writes positions; `timeline` is the one it ended on."""

    timeline: int
    begin_lsn: str
    end_lsn: str


@dataclass(frozen=True, slots=True)
class BackupObject:
    """One object: `bytes` and `sha256` (hex) as it is stored, `raw_bytes` before compression.

    A slice of a tar stream that begins inside a file `continues` it.
    """

    name: str
    bytes: int
    sha256: str
    raw_bytes: int
    continues: Continues | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """One backup.

    `source` is which server it is of (PostgreSQL: the system identifier). Times are UTC. `raw_bytes` is what
    the server sent, before compression; `objects` hold it, in its order, and `others` what belongs to it by
    name (PostgreSQL: backup_manifest, which the next incremental needs). `parent` is the backup that an
    incremental builds on. `run` is Dagster's run, None from the command line. `consistent_at` is, by the
    server's own clock, a moment at which the backup was over: the earliest that a restore to a point in time
    can stop at. `counts` is what it holds, by name (rows per table, keys per database), where that is known;
    `details` are facts of one store. `sealing` says how objects are encrypted; with "clickhouse" the server
    compressed them, and `codec` says nothing.
    """

    id: str
    store: Store
    kind: Kind
    source: str
    started_at: datetime
    finished_at: datetime
    raw_bytes: int
    codec: Codec
    objects: tuple[BackupObject, ...]
    key_id: str
    versions: Mapping[str, str]
    others: Mapping[str, BackupObject] = field(default_factory=dict)
    parent: str | None = None
    wal: WalRange | None = None
    run: str | None = None
    consistent_at: datetime | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    sealing: Sealing = "sdk"

    @property
    def stored_bytes(self) -> int:
        return sum(each.bytes for each in (*self.objects, *self.others.values()))


@dataclass(frozen=True, slots=True)
class Mark:
    """A fact about a backup that came later; `by` is what found it (a run, a command)."""

    backup: str
    name: MarkName
    at: datetime
    by: str
    details: Mapping[str, str] = field(default_factory=dict)


def new_id(store: Store, kind: Kind, started_at: datetime) -> str:
    """Sorts by start; the end holds two backups of one second apart."""
    return f"{started_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{store}-{kind}-{secrets.token_hex(3)}"


def sign(document: Manifest | Mark, ring: KeyRing, key_id: str) -> bytes:
    """The document as it is stored."""
    kind = _KIND_OF[type(document)]
    return seal(kind, _ADAPTERS[kind].dump_python(document, mode="json"), ring, key_id)


def seal(kind: str, body: Any, ring: KeyRing, key_id: str) -> bytes:
    """Any document of JSON types, signed; `kind` is the name of its one field."""
    sealed = {"format": FORMAT, kind: body, "key_id": key_id}
    sealed["hmac_sha256"] = _signature(sealed, ring.key(key_id))
    return json.dumps(sealed, indent=1, sort_keys=True).encode()


def read_manifest(body: bytes, name: str, ring: KeyRing) -> Manifest:
    """Raises Mismatch, which names `name`: altered, not ours, of another format, or under a lost key."""
    found = _read(body, name, ring, "manifest")
    assert isinstance(found, Manifest)  # noqa: S101
    return found


def read_mark(body: bytes, name: str, ring: KeyRing) -> Mark:
    """As `read_manifest`."""
    found = _read(body, name, ring, "mark")
    assert isinstance(found, Mark)  # noqa: S101
    return found


_KIND_OF: Mapping[type, str] = {Manifest: "manifest", Mark: "mark"}
_ADAPTERS: Mapping[str, TypeAdapter[Any]] = {name: TypeAdapter(type_) for type_, name in _KIND_OF.items()}


def unseal(body: bytes, name: str, ring: KeyRing, kind: str) -> Any:
    """What was sealed. Raises as `read_manifest`."""
    try:
        sealed = json.loads(body)
        said, key_id = sealed.pop("hmac_sha256"), sealed["key_id"]
        format_, document = sealed["format"], sealed[kind]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _altered(name, "no document of that form") from None
    if format_ != FORMAT:
        raise Mismatch(
            f"{name} is of another format",
            expected=f"format {FORMAT}",
            found=f"format {format_}",
            next="use the version of bilten that wrote it",
        )
    if str(key_id) not in ring.keys:
        raise Mismatch(
            f"{name} is under the key {key_id}, which is not in the key file",
            expected=f"one of {', '.join(sorted(ring.keys))}",
            found=str(key_id),
            next="put the copy of the key file that has it in its place (BILTEN_BACKUPS__KEY_FILE); without"
            " it this is lost",
        )
    if not hmac.compare_digest(str(said), _signature(sealed, ring.key(str(key_id)))):
        raise _altered(name, "another signature")
    return document


def _read(body: bytes, name: str, ring: KeyRing, kind: str) -> Manifest | Mark:
    document = unseal(body, name, ring, kind)
    try:
        found = _ADAPTERS[kind].validate_python(document, strict=False)
    except ValidationError as error:
        raise _altered(name, f"{error.error_count()} fields that do not hold") from None
    return found  # type: ignore[no-any-return]


def _altered(name: str, found: str) -> Mismatch:
    return Mismatch(
        f"{name} is damaged or was altered",
        expected="what was signed when the backup ended",
        found=found,
        next="the second bucket may have it whole; until then the backup counts as lost",
    )


def _signature(sealed: Mapping[str, Any], key: bytes) -> str:
    derived = hmac.digest(key, _DERIVATION, hashlib.sha256)
    canonical = json.dumps(sealed, sort_keys=True, separators=(",", ":")).encode()
    return hmac.digest(derived, canonical, hashlib.sha256).hex()
