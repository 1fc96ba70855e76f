"""Small files as the application keeps them: logos of organizations and posters of events.

The rows of assets.files are part of the operational load; the objects are uploaded after it, over themselves
when repeated.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np

from bilten_orchestration.demo import copying as c
from bilten_orchestration.demo import words
from bilten_orchestration.demo.catalogue import Catalogue
from bilten_orchestration.demo.copying import Tuples, tuples
from bilten_orchestration.demo.plan import HOUR, Bytes, Plan, uuids

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LOGOS_AT_MOST = 120
POSTERS_AT_MOST = 240
UPLOADS_AT_ONCE = 8
_SIDE = 24


@dataclass(frozen=True, slots=True)
class Asset:
    """One object; `owner` is the 16 bytes of its organization's or event's id."""

    owner_type: str
    owner: bytes
    key: str
    content_type: str
    body: bytes
    created: int


def assets(plan: Plan, offer: Catalogue) -> Iterator[Asset]:
    """A few hundred, equal for equal plans."""
    rng = plan.stream("assets")
    organizations, events = offer.organizations, offer.events
    for number in range(min(plan.organizations, LOGOS_AT_MOST)):
        owner = organizations.ids[number].tobytes()
        body = _png(rng.integers(0, 256, (2, 3)).astype(np.uint8))
        created = int(organizations.created[number]) + HOUR
        yield Asset(
            "organization", owner, f"organizations/{UUID(bytes=owner)}/logo.png", "image/png", body, created
        )
    for number in range(min(plan.events, POSTERS_AT_MOST)):
        owner = events.ids[number].tobytes()
        hue = int(rng.integers(0, 360))
        body = _poster(events.titles[number], words.CITIES[int(events.city[number])].name, hue)
        created = int(events.created[number]) + HOUR // 2
        yield Asset("event", owner, f"events/{UUID(bytes=owner)}/poster.svg", "image/svg+xml", body, created)


def file_rows(plan: Plan, offer: Catalogue, bucket: str) -> Tuples:
    """assets.files for them."""
    files = list(assets(plan, offer))
    created = np.array([file.created for file in files], dtype=np.int64)
    owners: Bytes = np.frombuffer(b"".join(file.owner for file in files), dtype=np.uint8).reshape(-1, 16)
    return tuples(
        "assets.files",
        {
            "id": c.uuid(uuids(plan.stream("file ids"), len(files))),
            "owner_type": c.text([file.owner_type for file in files]),
            "owner_id": c.uuid(owners),
            "bucket": c.text([bucket] * len(files)),
            "object_key": c.text([file.key for file in files]),
            "content_type": c.text([file.content_type for file in files]),
            "sha256": c.text([hashlib.sha256(file.body).hexdigest() for file in files]),
            "size": c.int8(np.array([len(file.body) for file in files], dtype=np.int64)),
            "created_at": c.timestamp(created),
            "updated_at": c.timestamp(created),
        },
    )


def upload(client: S3Client, bucket: str, plan: Plan, offer: Catalogue) -> int:
    """Put them all; how many. Raises botocore's errors after its own retries."""

    def put(file: Asset) -> None:
        client.put_object(Bucket=bucket, Key=file.key, Body=file.body, ContentType=file.content_type)

    with ThreadPoolExecutor(UPLOADS_AT_ONCE, thread_name_prefix="upload") as pool:
        return sum(1 for _ in pool.map(put, assets(plan, offer)))


def _png(colours: Bytes) -> bytes:
    """Two colours in stripes. Stored, not deflated: the bytes do not depend on the zlib at hand."""
    row = np.repeat(colours[np.arange(_SIDE) // 6 % 2][None, :, :], _SIDE, axis=0)
    raw = b"".join(b"\0" + line.tobytes() for line in row)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raw, 0))
        + chunk(b"IEND", b"")
    )


def _poster(title: str, city: str, hue: int) -> bytes:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 300 420">'
        f'<rect width="300" height="420" fill="hsl({hue} 60% 35%)"/>'
        f'<text x="20" y="200" fill="white" font-size="22">{title}</text>'
        f'<text x="20" y="240" fill="white" font-size="14">{city}</text></svg>'
    ).encode()
