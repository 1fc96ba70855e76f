"""The embedded endpoint's files: the disks of backups among them."""

from __future__ import annotations

import json
from pathlib import Path

from bilten_orchestration.local.clickhouse_endpoint import Endpoint, initialise, program
from bilten_orchestration.settings import ClickHouseSettings


def test_the_disks_are_private_and_restart_it_when_they_change(tmp_path: Path) -> None:
    endpoint = Endpoint(tmp_path / "clickhouse", ClickHouseSettings(port=8123), "<clickhouse>1</clickhouse>")
    initialise(endpoint)
    assert endpoint.disks_file.stat().st_mode & 0o777 == 0o600
    assert endpoint.disks_file in program(endpoint).files
    assert json.loads(endpoint.configuration.read_text())["extra_engine_config"] == str(endpoint.disks_file)
    written = endpoint.disks_file.stat().st_ino
    initialise(endpoint)
    assert endpoint.disks_file.stat().st_ino == written, "the same text is not written again"
    endpoint.disks_file.chmod(0o644)
    initialise(endpoint)
    assert endpoint.disks_file.stat().st_mode & 0o777 == 0o600
    initialise(Endpoint(endpoint.directory, endpoint.settings, "<clickhouse>2</clickhouse>"))
    assert "2" in endpoint.disks_file.read_text()
    assert "clickhouse>" not in repr(endpoint), "it holds keys"


def test_without_an_object_store_there_are_none(tmp_path: Path) -> None:
    endpoint = Endpoint(tmp_path / "clickhouse", ClickHouseSettings(port=8123))
    initialise(endpoint)
    assert program(endpoint).files == (endpoint.configuration,)
    assert json.loads(endpoint.configuration.read_text())["extra_engine_config"] is None
