"""When an incremental backup may be taken, and on what; the numbers are those of parents.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bilten_orchestration.backups.postgres.parents import choose
from bilten_orchestration.backups.postgres.server import Server
from bilten_orchestration.backups.repository.catalogue import Backup
from bilten_orchestration.backups.repository.manifest import Manifest, Mark, WalRange

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
SERVER = Server("7563", "18.1", 18, 1, 2, True, False, True, timedelta(days=10))
FULL = Manifest(
    id="newest",
    store="postgres",
    kind="full",
    source="7563",
    started_at=NOW - timedelta(hours=6),
    finished_at=NOW - timedelta(hours=5),
    raw_bytes=1,
    codec="zstd",
    objects=(),
    key_id="k",
    versions={"postgres": "18.0"},
    wal=WalRange(2, "0/2000028", "0/2000120"),
)
OLDER = replace(FULL, id="older", started_at=NOW - timedelta(days=1))


def test_the_newest_full_backup_is_the_parent() -> None:
    later = replace(
        FULL, id="later", kind="incremental", started_at=NOW - timedelta(hours=1), parent="newest"
    )
    assert choose([Backup(OLDER), Backup(FULL), Backup(later)], SERVER, NOW) == FULL


def test_an_expired_one_is_none() -> None:
    expired = Backup(FULL, (Mark("newest", "expired", NOW, "retention"),))
    assert choose([Backup(OLDER), expired], SERVER, NOW) == OLDER
    assert choose([expired], SERVER, NOW) == "the repository has no full backup of this server"


def test_one_of_a_clock_that_was_ahead_is_none() -> None:
    ahead = Backup(replace(FULL, id="ahead", started_at=NOW + timedelta(days=300)))
    assert choose([Backup(FULL), ahead], SERVER, NOW) == FULL
    assert choose([ahead], SERVER, NOW) == "the repository has no full backup of this server"


@pytest.mark.parametrize(
    ("backup", "server", "said"),
    [
        ({"source": "another"}, {}, "no full backup of this server"),
        ({"store": "redis"}, {}, "no full backup of this server"),
        ({}, {"major": 16}, "PostgreSQL 16 has none"),
        ({}, {"summarizes_wal": False}, "summarize_wal is off"),
        ({}, {"checksums": False}, "neither data checksums nor wal_log_hints"),
        ({}, {"summaries_kept": timedelta(hours=5)}, "kept for 5:00:00"),
        ({"versions": {"postgres": "17.6"}}, {}, "newest is of PostgreSQL 17.6"),
        ({}, {"timeline": 3}, "timeline 2, and the server is on 3"),
        ({"wal": None}, {}, "an unknown timeline"),
    ],
)
def test_what_forbids_one(backup: dict[str, Any], server: dict[str, Any], said: str) -> None:
    found = choose([Backup(replace(FULL, **backup))], replace(SERVER, **server), NOW)
    assert isinstance(found, str)
    assert said in found


@pytest.mark.parametrize(
    "server", [{"checksums": False, "wal_log_hints": True}, {"summaries_kept": None}, {"major": 18}]
)
def test_what_does_not_forbid_one(server: dict[str, Any]) -> None:
    assert choose([Backup(FULL)], replace(SERVER, **server), NOW) == FULL
