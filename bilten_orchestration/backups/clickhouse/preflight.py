"""What ClickHouse must have for its backups and their way back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bilten_orchestration.backups.clickhouse import merges, server
from bilten_orchestration.backups.clickhouse.disks import DISK
from bilten_orchestration.backups.preflight import Requirement
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse
from bilten_orchestration.stores.driver_errors import translated

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_DISK_FILE = (
    "bilten backup clickhouse-disks --to FILE; put it into the server's config.d, readable by the server's"
    " user alone, and restart the server (the embedded one: bilten up)"
)
_NO_BACKUP = "bilten-preflight"
_CODE = re.compile(r"Code: (\d+)\.|code: (\d+)")
_NOT_FOUND, _NOT_ALLOWED = "599", "36"
#: What our user must be granted, and what it is for.
_GRANTS = (
    ("BACKUP ON *.*", "backups"),
    ("CREATE DATABASE, CREATE TABLE, CREATE VIEW, INSERT, SELECT ON *.*", "restores"),
    ("SYSTEM MERGES ON *.*", "counting rows before they are merged"),
    ("KILL QUERY ON *.*", "ending what a killed process left"),
    ("SELECT ON system.*", "following a backup"),
)


def requirements(settings: Settings) -> tuple[Requirement, ...]:
    """In the order in which they are to be mended."""
    with translated("the preflight"):
        client = clickhouse.connect(settings.clickhouse)
        try:
            found = server.facts(client)
            return (
                Requirement(
                    "version",
                    server.release(found.version) >= server.OLDEST,
                    "25.8 or later",
                    found.version,
                    "upgrade the server",
                    "everything",
                ),
                *(
                    Requirement(
                        each.what, met=False, expected=each.expected, found=each.found, next=each.next
                    )
                    for each in found.forbidden
                    if not each.what.endswith("too old")
                ),
                *(each for disk in DISK.values() for each in disk_requirements(client, disk)),
                _merging(client),
                *(_granted(client, found.user, right, what) for right, what in _GRANTS),
            )
        finally:
            client.close()


def disk_requirements(client: Client, disk: str) -> tuple[Requirement, ...]:
    """Whether a disk is there, encrypts, keeps names, and may be used for backups."""
    rows = client.query(
        "select is_encrypted, object_storage_type, metadata_type from system.disks"
        " where name = {disk:String}",
        {"disk": disk},
    ).result_rows
    wanted = "encrypted, over S3 with plain metadata"
    if not rows:
        return (
            Requirement(f"the disk {disk}", False, wanted, "none of that name", _DISK_FILE, "everything"),
        )
    encrypted, kind, metadata = rows[0]
    right = Requirement(
        f"the disk {disk}",
        bool(encrypted) and kind == "S3" and metadata == "Plain",
        wanted,
        f"{'encrypted' if encrypted else 'not encrypted'}, over {kind} with {str(metadata).lower()} metadata",
        _DISK_FILE,
        "backups that nobody else reads, and that are whole with the bucket alone",
    )
    code, said = _asked_for_nothing(client, disk)
    return (
        right,
        Requirement(
            f"backups on {disk}",
            code == _NOT_FOUND,
            "the disk may be used for backups, and its bucket answers",
            "it does" if code == _NOT_FOUND else said,
            f"<backups><allowed_disk>{disk}</allowed_disk></backups>: {_DISK_FILE}"
            if code == _NOT_ALLOWED
            else "see that the server reaches the object store: bilten status",
            "everything",
        ),
    )


def _asked_for_nothing(client: Client, disk: str) -> tuple[str, str]:
    """The server's answer to the restore of a backup that there is none of: it writes nothing."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    try:
        client.command(
            f"restore database `{_NO_BACKUP}` from Disk('{disk}', '{_NO_BACKUP}') settings structure_only = 1"
        )
    except ClickHouseError as error:
        text = str(error)
        code = _CODE.search(text)
        return (code[1] or code[2]) if code else "", text.partition(" (for url")[0][-300:]
    return "", f"a backup of the name {_NO_BACKUP}"


def _merging(client: Client) -> Requirement:
    off = merges.left(client)
    return Requirement(
        "merges",
        not off,
        "on in every table",
        f"off in {', '.join(map(str, off))}: a restore is at work, or was killed" if off else "on",
        "; ".join(merges.statement(table) for table in off) or "",
        "tables that take inserts for long",
    )


def _granted(client: Client, user: str, right: str, what: str) -> Requirement:
    rows = client.query(f"check grant {right}").result_rows
    met = bool(rows and int(rows[0][0]))
    return Requirement(
        f"rights for {what}",
        met,
        f"{right}, granted to {user}",
        "granted" if met else "not granted",
        f"grant {right} to `{user}`",
    )
