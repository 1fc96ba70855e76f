"""The configuration file: refused with every reason at once, never showing what it holds."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from bilten_orchestration.errors import UsageError
from bilten_orchestration.local.clickhouse.config import (
    EndpointConfig,
    User,
    hash_password,
    load_config,
    verify_password,
    write_config,
)
from bilten_orchestration.local.clickhouse.engine_config import (
    engine_config,
    users_config,
    write_engine_config,
)


def config(tmp_path: Path, **changes: Any) -> EndpointConfig:
    users = {"bilten_etl": User(password_hash=hash_password("secret-password"), profile="etl")}
    return EndpointConfig(**({"data_dir": tmp_path / "data", "port": 8123, "users": users} | changes))


def test_passwords() -> None:
    hashed = hash_password("secret-password")
    assert verify_password("secret-password", hashed)
    assert not verify_password("Secret-password", hashed)
    assert hashed != hash_password("secret-password")
    assert "secret" not in hashed


def test_written_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "endpoint.json"
    write_config(config(tmp_path), file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_config(file) == config(tmp_path, users=load_config(file).users)
    assert "secret-password" not in file.read_text()


def test_all_problems_at_once_and_no_content(tmp_path: Path) -> None:
    file = tmp_path / "endpoint.json"
    file.write_text(
        json.dumps(
            {"port": 99999, "users": {"x": {"password_hash": "plain-secret", "profile": "root"}}, "prot": 1}
        )
    )
    file.chmod(0o600)
    with pytest.raises(UsageError) as raised:
        load_config(file)
    for part in ("port", "data_dir", "password_hash", "profile", "prot"):
        assert part in str(raised.value)
    assert "plain-secret" not in str(raised.value)


@pytest.mark.parametrize(("mode", "text"), [(0o644, "{}"), (0o600, "no json")])
def test_unusable_files(tmp_path: Path, mode: int, text: str) -> None:
    file = tmp_path / "endpoint.json"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(UsageError):
        load_config(file)
    with pytest.raises(UsageError):
        load_config(tmp_path / "absent.json")


def test_engine_configuration(tmp_path: Path) -> None:
    fragment = tmp_path / "extra.xml"
    fragment.write_text(
        "<clickhouse><storage_configuration><disks><b><type>local</type></b></disks></storage_configuration>"
        "<backups><allowed_disk>b</allowed_disk></backups><mark_cache_size>1</mark_cache_size></clickhouse>"
    )
    root = engine_config(config(tmp_path, extra_engine_config=fragment), Path("/users.xml"))
    assert root.findtext("max_server_memory_usage") == str(1024**3)
    assert root.findtext("query_log/ttl") == "event_date + INTERVAL 14 DAY DELETE"
    assert root.findtext("storage_configuration/disks/b/type") == "local"
    assert root.findtext("backups/allowed_disk") == "b"
    assert root.findtext("backups/allowed_path")  # extended, not replaced
    assert root.findtext("mark_cache_size") == "1"
    for log in ("trace_log", "metric_log", "asynchronous_metric_log", "text_log"):
        assert root.find(log) is None


def test_a_list_in_the_fragment_stays_a_list_and_replaces_what_was_there(tmp_path: Path) -> None:
    fragment = tmp_path / "disks.xml"
    fragment.write_text(
        "<clickhouse><backups><allowed_disk>a</allowed_disk><allowed_disk>b</allowed_disk></backups>"
        "<mark_cache_size>1</mark_cache_size></clickhouse>"
    )
    root = engine_config(config(tmp_path, extra_engine_config=fragment), Path("/users.xml"))
    assert [each.text for each in root.findall("backups/allowed_disk")] == ["a", "b"]
    assert [each.text for each in root.findall("mark_cache_size")] == ["1"]
    assert root.find("backups/allowed_path") is not None


def test_the_analysts_role_grants_reading_and_nothing_else() -> None:
    grants = [grant.text or "" for grant in users_config().findall("roles/bilten_analyst/grants/query")]
    assert grants
    assert all(grant.startswith("GRANT SELECT ON ") for grant in grants)
    assert not any("*.*" in grant or "system.*" in grant for grant in grants)


def test_engine_files_are_private(tmp_path: Path) -> None:
    file = write_engine_config(config(tmp_path))
    for path in (file, file.with_name("users.xml")):
        assert path.stat().st_mode & 0o777 == 0o600
        ET.parse(path)
