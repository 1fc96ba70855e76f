"""The disks that ClickHouse writes backups to and reads them from: encrypted ones over S3, with our keys.

`bilten_backups` lies in the first bucket, `bilten_backups_copy` in the second. Files keep their names below
`objects/clickhouse/` (metadata type plain), so a backup is whole with the bucket alone. The server encrypts
with AES-256-CTR under keys that are derived from those of the key file (HKDF-SHA-256); each has a number, the
fingerprint in the key's id, and an old one stays for reading. The text holds keys: it belongs into a file
that the server alone can read, and a server reads it when it starts.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from bilten_orchestration.backups.repository.keys import KEY_BYTES, KeyRing
from bilten_orchestration.backups.repository.opened import Bucket
from bilten_orchestration.errors import Refused
from bilten_orchestration.settings import ObjectStoreSettings

DISK: dict[Bucket, str] = {"first": "bilten_backups", "copy": "bilten_backups_copy"}
PREFIX = "objects/clickhouse"
_DERIVATION = b"bilten clickhouse disk 1"
# of one request, with growing pauses: some two minutes. ClickHouse's own defaults try for over an hour.
_ATTEMPTS = 12


def disk_key(key: bytes) -> bytes:
    """What the disk encrypts under, from a key of the key file."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), KEY_BYTES, salt=None, info=_DERIVATION).derive(key)


def number(key_id: str) -> int:
    """A key's number in the configuration: the fingerprint at the end of its id."""
    return int(key_id.rpartition("-")[2], 16)


def configuration(store: ObjectStoreSettings, ring: KeyRing) -> str:
    """The fragment of ClickHouse's configuration, an XML document that holds secrets.

    Raises Refused without an address of the object store.
    """
    if store.endpoint_url is None:
        raise Refused(
            "the object store has no address",
            expected="BILTEN_OBJECT_STORE__ENDPOINT_URL, or the embedded server",
            found="neither",
            next="bilten up",
        )
    root = ET.Element("clickhouse")
    disks = ET.SubElement(ET.SubElement(root, "storage_configuration"), "disks")
    allowed = ET.SubElement(root, "backups")
    for place, bucket, name in (
        (store, store.bucket_backups, DISK["first"]),
        (store.of_copy, store.bucket_backups_copy, DISK["copy"]),
    ):
        _fill(ET.SubElement(disks, f"{name}_s3"), _s3(place, bucket))
        encrypted = ET.SubElement(disks, name)
        _fill(encrypted, {"type": "encrypted", "disk": f"{name}_s3", "algorithm": "AES_256_CTR"})
        for key_id, key in sorted(ring.keys.items()):
            ET.SubElement(encrypted, "key_hex", id=str(number(key_id))).text = disk_key(key).hex()
        _fill(encrypted, {"current_key_id": str(number(ring.current))})
        ET.SubElement(allowed, "allowed_disk").text = name
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _s3(store: ObjectStoreSettings, bucket: str) -> dict[str, str]:
    key = store.access_key_id.get_secret_value()
    return {
        "type": "s3_plain",
        "endpoint": f"{str(store.endpoint_url).rstrip('/')}/{bucket}/{PREFIX}/",
        "region": store.region,
        **(
            {"access_key_id": key, "secret_access_key": store.secret_access_key.get_secret_value()}
            if key
            else {"use_environment_credentials": "true"}
        ),
        # the server starts, and serves, while the store is away
        "skip_access_check": "true",
        "retry_attempts": str(_ATTEMPTS),
        "connect_timeout_ms": "5000",
        "request_timeout_ms": "30000",
    }


def _fill(element: ET.Element, values: dict[str, str]) -> None:
    for name, text in values.items():
        ET.SubElement(element, name).text = text
