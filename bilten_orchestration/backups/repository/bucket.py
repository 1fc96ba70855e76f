"""One bucket of the backup repository: objects that are written once and never changed.

Names, all below the bucket:

    catalogue/<store>/<backup id>/manifest.json     written last; without it there is no backup
    catalogue/<store>/<backup id>/<mark>-<time>.json   verified, drilled, expired: facts that came later
    objects/<store>/<backup id>/<number>            encrypted, at most OBJECT_BYTES each
    drills/<store>/<number>-<time>-<id>.json        a signed chain of drills (drills/attestation.py)
    journal/prune/<time>-<bucket>.json              what retention removed, and why (retention/prune.py)
    journal/recover/, journal/partitions/           what was taken back; what was dropped, or restored
    archives/<store>/<table>/<id>/...               partitions (partitions/archives.py), outside all age rules
    assets/<xx>/<sha256>                            the application's files, in the second bucket (copies/)

What a kill leaves: an object without a manifest (swept after a grace time), or an upload in parts that was
never completed (aborted by the sweep; until then it costs room and cannot be read).
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from bilten_orchestration.backups.repository.chunks import as_file
from bilten_orchestration.errors import AccessRefused, Mismatch, StoreFull, StoreUnavailable, TerminalError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OBJECT_BYTES = 1 << 30
# two objects at once have four parts each under way; S3 takes 10,000 parts of at least 5 MiB
PART_BYTES = 8 << 20
PARTS_AT_ONCE = 4
READ_BYTES = 1 << 20
_READ_ATTEMPTS = 5
_GONE = {"404", "NoSuchKey", "NotFound", "NoSuchBucket"}
_FORBIDDEN = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
#: Of RFC 4918, Ceph and MinIO: AWS is never full.
FULL = {
    "507",
    "InsufficientStorage",
    "QuotaExceeded",
    "XMinioAdminBucketQuotaExceeded",
    "XMinioStorageFull",
}


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it lies in the bucket: `sha256` (hex) and size of its very bytes."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Listed:
    name: str
    bytes: int
    written_at: datetime


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An upload in parts that was not completed."""

    name: str
    upload_id: str
    begun_at: datetime


class Repository:
    """A bucket. Every method raises StoreUnavailable, AccessRefused or StoreFull where the store does; how
    long it waits before that is the client's patience."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self.bucket = bucket

    def write(self, name: str, chunks: Iterable[bytes]) -> Stored:
        """Stream an object in parts, in bounded memory; there is none when `chunks` raises.

        Raises Mismatch when the name is taken, or the store keeps another size than it was sent.
        """
        from boto3.s3.transfer import TransferConfig
        from botocore.exceptions import ClientError

        self._refuse_taken(name)
        counted = _Counted(chunks)
        config = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=PARTS_AT_ONCE
        )
        config.max_in_memory_upload_chunks = PARTS_AT_ONCE
        with self._told(name):
            try:
                self._client.upload_fileobj(as_file(counted), self.bucket, name, Config=config)
            except ClientError as error:
                # the answer to its last step was lost, and the step was tried again: it is an object by now
                if error.response["Error"]["Code"] != "NoSuchUpload" or self.find(name) is None:
                    raise
            kept = self._client.head_object(Bucket=self.bucket, Key=name)["ContentLength"]
        if kept != counted.bytes:
            raise Mismatch(
                f"the store kept another size of {self.bucket}/{name}",
                expected=f"{counted.bytes} bytes",
                found=f"{kept} bytes",
                next="repeat the backup; look at the store's log when it happens again",
            )
        return Stored(name, counted.bytes, counted.sha256)

    def write_small(self, name: str, body: bytes) -> Stored:
        """A few KiB in one step. The same bytes under the same name are there already: that is success."""
        digest = hashlib.sha256(body).hexdigest()
        found = self.find(name)
        if found is not None:
            if self.read_small(name) == body:
                return Stored(name, len(body), digest)
            self._refuse_taken(name)
        with self._told(name):
            self._client.put_object(Bucket=self.bucket, Key=name, Body=body)
        return Stored(name, len(body), digest)

    def read(self, name: str) -> Generator[bytes, None, None]:
        """The bytes of an object. A connection that breaks is taken up again where it broke.

        Raises StoreUnavailable after five answers that brought nothing.
        """
        at, in_vain = 0, 0
        while True:
            before = at
            # the client has been patient already when this raises
            with self._told(name):
                rest = {"Range": f"bytes={at}-"} if at else {}
                answer = self._client.get_object(Bucket=self.bucket, Key=name, **rest)  # type: ignore[arg-type]
                size = at + answer["ContentLength"]
            try:
                with closing(answer["Body"]) as body:
                    while at < size:
                        with self._told(name):
                            chunk = body.read(READ_BYTES)
                        if not chunk:
                            raise _unavailable(f"{self.bucket}/{name}", f"{at} of {size} bytes")
                        at += len(chunk)
                        yield chunk
            except StoreUnavailable:
                in_vain = 0 if at > before else in_vain + 1
                if in_vain >= _READ_ATTEMPTS:
                    raise
            else:
                return

    def read_small(self, name: str) -> bytes:
        """Raises Mismatch when there is no such object."""
        return b"".join(self.read(name))

    def find(self, name: str) -> Listed | None:
        """The object of that name; None only when the store says that there is none."""
        from botocore.exceptions import ClientError

        with self._told(name):
            try:
                head = self._client.head_object(Bucket=self.bucket, Key=name)
            except ClientError as error:
                if error.response["Error"]["Code"] in _GONE:
                    return None
                raise
        return Listed(name, head["ContentLength"], head["LastModified"])

    def list(self, prefix: str) -> Iterator[Listed]:
        """Every object below a prefix, in the order of names."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        with self._told(prefix):
            for page in pages:
                for entry in page.get("Contents", []):
                    yield Listed(entry["Key"], entry["Size"], entry["LastModified"])

    def remove(self, name: str) -> None:
        """There is no object of that name afterwards, also when there was none."""
        with self._told(name):
            self._client.delete_object(Bucket=self.bucket, Key=name)

    def unfinished(self) -> Iterator[Unfinished]:
        """Every upload in parts that is under way, or was left by a kill; none where a store lists none."""
        from botocore.exceptions import ClientError

        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket)
        with self._told(""):
            try:
                for page in pages:
                    for entry in page.get("Uploads", []):
                        yield Unfinished(entry["Key"], entry["UploadId"], entry["Initiated"])
            except ClientError as error:
                # the embedded server says so of a bucket that never had one
                if error.response["Error"]["Code"] not in {"NoSuchUpload", "NotImplemented"}:
                    raise

    def abort(self, upload: Unfinished) -> None:
        """Give its parts up. One that ended meanwhile is none any more."""
        from botocore.exceptions import ClientError

        with self._told(upload.name):
            try:
                self._client.abort_multipart_upload(
                    Bucket=self.bucket, Key=upload.name, UploadId=upload.upload_id
                )
            except ClientError as error:
                if error.response["Error"]["Code"] not in {"NoSuchUpload", *_GONE}:
                    raise

    def clock(self) -> datetime:
        """By the store's own clock (the Date of its answer), UTC. Raises Mismatch where it tells none."""
        with self._told(""):
            answer = self._client.head_bucket(Bucket=self.bucket)["ResponseMetadata"]
        try:
            return parsedate_to_datetime(answer["HTTPHeaders"]["date"]).astimezone(UTC)
        except (KeyError, ValueError):
            raise Mismatch(
                f"the object store tells no time with its answers ({self.bucket})",
                expected="a Date header",
                found="none that can be read",
                next="nothing is removed without it: look at what lies between here and the store",
            ) from None

    def _refuse_taken(self, name: str) -> None:
        if self.find(name) is not None:
            raise Mismatch(
                f"{self.bucket}/{name} exists and is never overwritten",
                expected="a new name",
                found="an object with other bytes, or of another writer",
                next="see who else writes into this repository: two deployments must not share one",
            )

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """The client's exceptions as ours."""
        import urllib3.exceptions
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        place = f"{self.bucket}/{name}"
        try:
            yield
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _GONE:
                raise Mismatch(
                    f"{place} is not there",
                    expected="an object that the catalogue names",
                    found=code,
                    next="the second bucket may have it; bilten backup list shows other backups",
                ) from None
            if code in FULL:
                raise StoreFull(
                    f"the object store has no room for {place}",
                    expected="room for another object",
                    found=code,
                    next="make a little room there, or raise the quota: bilten backup prune, which removes"
                    " what is expired, writes a few KiB first",
                ) from None
            if code == "EntityTooLarge":
                raise TerminalError(
                    f"the object store does not take {place}",
                    expected="objects of up to BILTEN_BACKUPS__SLICE_BYTES,"
                    f" in parts of {PART_BYTES >> 20} MiB",
                    found=code,
                    next="lower BILTEN_BACKUPS__SLICE_BYTES, or raise the store's limit",
                ) from None
            if code in _FORBIDDEN:
                raise AccessRefused(
                    f"the object store refuses {place}",
                    expected="keys that may read, write and list this bucket",
                    found=code,
                    next="correct BILTEN_OBJECT_STORE__ACCESS_KEY_ID and __SECRET_ACCESS_KEY (of a"
                    " second store __COPY_ACCESS_KEY_ID and __COPY_SECRET_ACCESS_KEY)",
                ) from None
            raise _unavailable(place, code) from error
        except (BotoCoreError, Boto3Error, urllib3.exceptions.HTTPError) as error:
            raise _unavailable(place, type(error).__name__) from error


def _unavailable(place: str, found: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"the object store does not serve {place}",
        expected="an answer",
        found=found,
        # some say no more when their disk is full, `rclone serve s3` among them
        next="bilten status; the store's log and the room on its disk; the same command can be repeated",
    )


class _Counted:
    """Chunks, with size and SHA-256 of what was taken so far."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._digest = hashlib.sha256()
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._digest.update(chunk)
            self.bytes += len(chunk)
            yield chunk

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()
