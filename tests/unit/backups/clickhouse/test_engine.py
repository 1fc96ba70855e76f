"""ClickHouse's backups without a server: disks and keys, files as they are stored, what is selected."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pydantic import SecretStr

from bilten_orchestration.backups.clickhouse import base, disks, sealed
from bilten_orchestration.backups.clickhouse.operations import Running, quoted
from bilten_orchestration.backups.clickhouse.parents import choose
from bilten_orchestration.backups.clickhouse.selection import Table, select, tables_in
from bilten_orchestration.backups.clickhouse.server import Server
from bilten_orchestration.backups.clickhouse.target import of_url
from bilten_orchestration.backups.repository import keys
from bilten_orchestration.backups.repository.catalogue import Backup
from bilten_orchestration.backups.repository.manifest import Manifest, Mark
from bilten_orchestration.errors import Mismatch, Refused, UsageError
from bilten_orchestration.settings import ClickHouseSettings, ObjectStoreSettings

NOW = datetime(2026, 11, 21, 3, tzinfo=UTC)
STORE = ObjectStoreSettings(
    endpoint_url="http://store:9000/",
    access_key_id=SecretStr("accesskeyid"),
    secret_access_key=SecretStr("secret&<access>key"),
)


@pytest.fixture
def ring(tmp_path: Path) -> keys.KeyRing:
    return keys.ensure(tmp_path / "keys.json")


def test_both_disks_hold_every_key_and_write_under_the_current_one(tmp_path: Path) -> None:
    keys.ensure(tmp_path / "keys.json")
    ring = keys.rotate(tmp_path / "keys.json")
    document = ET.fromstring(disks.configuration(STORE, ring))
    assert [each.text for each in document.findall("backups/allowed_disk")] == [
        "bilten_backups",
        "bilten_backups_copy",
    ]
    for name, bucket in (
        ("bilten_backups", STORE.bucket_backups),
        ("bilten_backups_copy", STORE.bucket_backups_copy),
    ):
        disk = document.find(f"storage_configuration/disks/{name}")
        s3 = document.find(f"storage_configuration/disks/{name}_s3")
        assert disk is not None
        assert s3 is not None
        assert s3.findtext("endpoint") == f"http://store:9000/{bucket}/objects/clickhouse/"
        assert s3.findtext("secret_access_key") == "secret&<access>key"
        assert disk.findtext("algorithm") == "AES_256_CTR"
        held = {each.get("id"): each.text for each in disk.findall("key_hex")}
        assert held == {
            str(int(key_id[-8:], 16)): disks.disk_key(key).hex() for key_id, key in ring.keys.items()
        }
        assert disk.findtext("current_key_id") == str(int(ring.current[-8:], 16))
    assert all(key.hex() not in ET.tostring(document, "unicode") for key in ring.keys.values())


def test_the_second_bucket_may_be_in_a_store_of_its_own(ring: keys.KeyRing) -> None:
    store = STORE.model_copy(
        update={
            "copy_endpoint_url": "http://elsewhere:9000",
            "copy_region": "eu-west-3",
            "copy_access_key_id": SecretStr("another-key-id"),
            "copy_secret_access_key": SecretStr("another-secret"),
        }
    )
    document = ET.fromstring(disks.configuration(store, ring))
    found = {
        name: [
            document.findtext(f"storage_configuration/disks/{name}_s3/{of}")
            for of in ("endpoint", "region", "access_key_id", "secret_access_key")
        ]
        for name in ("bilten_backups", "bilten_backups_copy")
    }
    assert found == {
        "bilten_backups": [
            f"http://store:9000/{STORE.bucket_backups}/objects/clickhouse/",
            STORE.region,
            "accesskeyid",
            "secret&<access>key",
        ],
        "bilten_backups_copy": [
            f"http://elsewhere:9000/{STORE.bucket_backups_copy}/objects/clickhouse/",
            "eu-west-3",
            "another-key-id",
            "another-secret",
        ],
    }


def test_keys_of_a_role_come_from_the_server_where_there_are_none(ring: keys.KeyRing) -> None:
    store = STORE.model_copy(update={"access_key_id": SecretStr("")})
    assert "<use_environment_credentials>true" in disks.configuration(store, ring)
    with pytest.raises(Refused, match="has no address"):
        disks.configuration(STORE.model_copy(update={"endpoint_url": None}), ring)


def test_the_key_of_a_disk_is_always_the_same() -> None:
    # HKDF-SHA-256 (RFC 5869), no salt, info "bilten clickhouse disk 1": what was written must stay readable
    assert disks.disk_key(bytes(range(32))).hex() == (
        "0398fa414ad41822565f546daddb240d37268c2698031f39fdb0aa4ee938524e"
    )


def _stored(content: bytes, key: bytes, counter: bytes = b"\xff" * 16) -> bytes:
    header = b"ENC" + (2).to_bytes(2, "little") + (2).to_bytes(2, "little") + b"f" * 16 + counter
    cipher = Cipher(algorithms.AES256(disks.disk_key(key)), modes.CTR(counter)).encryptor()
    return header.ljust(64, b"\0") + cipher.update(content)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 1000])
def test_files_of_an_encrypted_disk_in_pieces_of_any_size(ring: keys.KeyRing, size: int) -> None:
    key = ring.keys[ring.current]
    stored = _stored(b"<config>" + b"x" * 500, key)
    pieces = [stored[at : at + size] for at in range(0, len(stored), size)]
    assert b"".join(sealed.decrypted("a", pieces, key)) == b"<config>" + b"x" * 500


def test_whose_key_a_list_is_under(tmp_path: Path) -> None:
    old = keys.ensure(tmp_path / "keys.json")
    ring = keys.rotate(tmp_path / "keys.json")
    for key_id in ring.keys:
        assert sealed.key_of_list("a", _stored(b"<?xml version", ring.keys[key_id])[:100], ring) == key_id
    with pytest.raises(Mismatch, match="not in the key file"):
        sealed.key_of_list("a", _stored(b"<config>", ring.keys[ring.current]), old)


@pytest.mark.parametrize(
    "body",
    [b"", b"ENC", b"<config>".ljust(100), b"ENC\x09\0\x02\0".ljust(64), b"ENC\x02\0\0\0".ljust(64)],
)
def test_what_is_not_encrypted_is_told(body: bytes) -> None:
    with pytest.raises(Mismatch, match="is not encrypted"):
        sealed.header("a", body)
    with pytest.raises(Mismatch, match="is not encrypted"):
        list(sealed.decrypted("a", [body], b"k" * 32))


SERVER = Server("source", "26.9.2.1", 1, False, "bilten_etl")
FULL = Manifest(
    id="newest",
    store="clickhouse",
    kind="full",
    source="source",
    started_at=NOW - timedelta(days=2),
    finished_at=NOW - timedelta(days=2),
    raw_bytes=1,
    codec="zstd",
    objects=(),
    key_id="k",
    versions={"clickhouse": "26.9.1.5"},
    sealing="clickhouse",
)
OLDER = replace(FULL, id="older", started_at=NOW - timedelta(days=9))


def test_the_newest_full_backup_is_the_parent() -> None:
    later = replace(FULL, id="later", kind="incremental", started_at=NOW, parent="newest")
    assert choose([Backup(OLDER), Backup(FULL), Backup(later)], SERVER) == FULL
    expired = Backup(FULL, (Mark("newest", "expired", NOW, "retention"),))
    assert choose([Backup(OLDER), expired], SERVER) == OLDER


@pytest.mark.parametrize(
    ("backup", "said"),
    [
        ({"source": "another"}, "no full backup of this server"),
        ({"store": "postgres"}, "no full backup of this server"),
        ({"versions": {"clickhouse": "27.1.1.1"}}, "newest is of ClickHouse 27.1.1.1"),
    ],
)
def test_what_forbids_one(backup: dict[str, Any], said: str) -> None:
    found = choose([Backup(replace(FULL, **backup))], SERVER)
    assert isinstance(found, str)
    assert said in found


def test_rows_are_known_of_what_did_not_move() -> None:
    before = {"a.still": (5, "x"), "a.merged": (5, "x"), "a.dropped": (1, "x")}
    after = {"a.still": (5, "x"), "a.merged": (5, "y"), "a.new": (1, "z")}
    assert base.unchanged(before, after) == {"a.still": 5}


def test_the_statement() -> None:
    full = base.statement("id1", None, access=False)
    assert full.startswith("backup database `bilten_raw`, ")
    assert "bilten_stage" not in full
    assert full.endswith("to Disk('bilten_backups', 'id1') settings id = 'id1'")
    on = base.statement("id2", "id1", access=True)
    assert "table system.users, table system.roles" in on
    assert on.endswith(", base_backup = Disk('bilten_backups', 'id1')")


LIST = b"""<config><version>1</version><contents>
<file><name>metadata/marts/fct%20odd%2Dname.sql</name><size>1</size></file>
<file><name>metadata/marts.sql</name></file>
<file><name>metadata/marts/%2Einner_id%2Ed136.sql</name></file>
<file><name>data/marts/metadata/x.sql</name></file>
<file><name>metadata/analytics/events.sql</name></file></contents></config>"""
THERE = (Table("analytics", "events"), Table("marts", "fct odd-name"))


def test_tables_of_a_backup() -> None:
    assert tables_in([LIST[:70], LIST[70:]]) == THERE


def test_what_is_selected() -> None:
    everything = select(THERE, database=None, table=None, rename=None)
    assert (everything.elements, everything.whole) == ("database `analytics`, database `marts`", True)
    renamed = select(THERE, database="marts", table=None, rename="b`ck")
    assert renamed.elements == "database `marts` as `b\\`ck`"
    assert renamed.targets == (Table("b`ck", "fct odd-name"),)
    one = select(THERE, database=None, table="marts.fct odd-name", rename="x")
    assert one.elements == "table `marts`.`fct odd-name` as `x`.`fct odd-name`"
    assert not one.whole
    with pytest.raises(UsageError) as told:
        select(THERE, database="nothing", table="marts.events", rename=None)
    assert len(told.value.problems) == 3
    assert told.value.problems[2].expected == "analytics.events"


def test_whose_an_operation_is() -> None:
    ours = "Disk('bilten_backups', 'x')"
    assert Running("20261121T030000Z-clickhouse-full-abcdef", ours, "CREATING_BACKUP").ours
    assert Running("restore-20261121T030000Z-clickhouse-full-abcdef-rows-1", ours, "RESTORING").ours
    assert not Running("by-hand", ours, "CREATING_BACKUP").ours
    assert not Running("20261121T030000Z-clickhouse-full-abcdef", "Disk('other', 'x')", "RESTORING").ours
    assert quoted("a`b\\") == "`a\\`b\\\\`"


def test_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ClickHouseSettings(host="here", password=SecretStr("ours"))
    found = of_url("https://someone@there:8443", ours)
    assert (found.host, found.port, found.secure, found.user) == ("there", 8443, True, "someone")
    monkeypatch.setenv("CLICKHOUSE_PASSWORD", "theirs")
    assert of_url("http://there:8123/", ours).password.get_secret_value() == "theirs"


@pytest.mark.parametrize(
    "url",
    [
        "there:8123",
        "http://there",
        "ftp://there:1",
        "http://there:x",
        "http://a:secret@there:1",
        "http://h:1/p",
    ],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UsageError) as told:
        of_url(url, ClickHouseSettings())
    assert "secret" not in str(told.value)
