"""Promises in words: which group they belong to, what they are called, and where in Dagster and in the
documents they lead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bilten_orchestration.drills import promises as drills
from bilten_orchestration.observability.finding import Kind

GROUPS: Final = ("Recovery point", "Backups", "Drills", "Data", "Room", "Orchestration", "Other")
_DRILLS: Final = {
    drills.RPO: "data lost",
    drills.RTO: "time to recover",
    drills.RECENT: "last good drill",
    drills.WAYS: "ways back walked",
    drills.AGREED: "compared with the live store",
    drills.CALM: "warnings",
}


@dataclass(frozen=True, slots=True)
class Topic:
    """`path` in Dagster's UI, empty where nothing there is behind it; `kind` names the section of
    docs/operations.md, None where there is none."""

    group: str
    title: str
    path: str = ""
    kind: Kind | None = None


def topic(name: str) -> Topic:
    """Of a promise; one that is not known here goes under its own name."""
    first, _, rest = name.partition("/")
    made = _TOPICS.get(first)
    return Topic("Other", name) if made is None else made(rest)


def _drill(rest: str) -> Topic:
    store, _, name = rest.partition("/")
    title = f"{store}: {_DRILLS.get(name, name.replace('_', ' '))}"
    return Topic("Drills", title, f"/assets/drills/{store}", "drill-promise")


def _backup(rest: str) -> Topic:
    store, _, kind = rest.partition("/")
    return Topic("Backups", f"{store}: newest {kind}", f"/assets/backups/{store}/{kind}", "backup-overdue")


_WAL: Final = "/assets/backups/postgres/wal"
_TOPICS: Final[dict[str, Callable[[str], Topic]]] = {
    "rpo": lambda rest: Topic(
        "Recovery point", f"RPO now, {rest}" if rest else "RPO now", _WAL, "rpo-missed"
    ),
    "wal_heartbeat_age": lambda _: Topic("Recovery point", "newest WAL heartbeat", _WAL, "wal-heartbeat"),
    "slot_kept_bytes": lambda rest: Topic("Recovery point", f"WAL kept by slot {rest}", _WAL, "wal-slot"),
    "backup_age": _backup,
    "drill": _drill,
    "marts_fresh": lambda _: Topic("Data", "daily marts final", "/assets/marts", "mart-not-fresh"),
    "sync_lag": lambda _: Topic("Data", "ClickHouse behind PostgreSQL", "/assets/raw", "sync-lag"),
    "search_lag": lambda _: Topic("Data", "search behind PostgreSQL", "/assets/search/changes", "search-lag"),
    "partitions_ahead": lambda rest: Topic(
        "Room",
        f"partitions ahead, {rest}",
        f"/assets/partitions/{rest.partition('.')[2]}",
        "partitions-ahead",
    ),
    "disk_used_percent": lambda rest: Topic("Room", f"disk of {rest}", "", "disk-full"),
    "dagster_daemon_heartbeat_age": lambda _: Topic(
        "Orchestration", "newest daemon heartbeat", "/deployment/daemons", "daemon-silent"
    ),
}
