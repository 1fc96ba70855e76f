"""Clients of the S3 API."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import ObjectStoreSettings
from bilten_orchestration.stores.patience import Patience

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def connect(
    store: ObjectStoreSettings,
    *,
    checked: bool = False,
    patience_seconds: float | None = None,
    progress: Progress = silent,
) -> S3Client:
    """One client, path-style addresses (what S3-compatible servers understand), nothing sent yet.

    A store that refuses connections or fails is given up after some five seconds (ten where connections are
    not even refused, a minute where it takes a request and says nothing). Once it has answered, each request
    is tried again for `patience_seconds` (None: as the settings say) before its error is raised; `progress`
    hears of it. See patience.py.

    `checked`: every body and part is sent with its MD5, which the server compares (the one checksum that
    all S3 APIs know): bytes that were changed on the way are refused by the store. Costs 1.5 CPU-seconds
    per GiB.
    """
    import boto3
    from botocore.config import Config

    if store.endpoint_url is None:
        raise StoreUnavailable(
            "the object store has no address",
            expected="BILTEN_OBJECT_STORE__ENDPOINT_URL, or the embedded server running",
            found="neither",
            next="bilten up",
        )
    client: S3Client = boto3.client(
        "s3",
        endpoint_url=store.endpoint_url,
        region_name=store.region,
        aws_access_key_id=store.access_key_id.get_secret_value(),
        aws_secret_access_key=store.secret_access_key.get_secret_value(),
        config=Config(
            s3={"addressing_style": "path"},
            connect_timeout=5,
            # Patience decides
            retries={"mode": "standard", "total_max_attempts": 1},
            # S3-compatible servers answer the newer default checksums with errors
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    patience = store.patience_seconds if patience_seconds is None else patience_seconds
    Patience(patience, progress).attach(client)
    if checked:
        for call in ("PutObject", "UploadPart"):
            client.meta.events.register(f"before-call.s3.{call}", _add_md5)
    return client


def _add_md5(params: dict[str, Any], **_: object) -> None:
    body = params["body"]
    digest = hashlib.md5(usedforsecurity=False)
    if isinstance(body, bytes | bytearray):
        digest.update(body)
    elif body is not None:
        start = body.tell()
        while chunk := body.read(1 << 20):
            digest.update(chunk)
        body.seek(start)
    params["headers"]["Content-MD5"] = base64.b64encode(digest.digest()).decode()
