"""What lost stores would be brought back from, and what stands in the way. Reads only.

Per store what site_sources.py chooses, the room it needs and has, and the keys.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from bilten_orchestration.backups.postgres import targets
from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.errors import BiltenError, Problem
from bilten_orchestration.local.layout import for_servers
from bilten_orchestration.local.privileges import server_user
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.recovery import site_sources
from bilten_orchestration.recovery.site_sources import LOST, Lost, StorePlan
from bilten_orchestration.recovery.site_spool import Beyond
from bilten_orchestration.settings import Settings

_SEARCH = "search written again, or built anew where it has no index; every document compared with PostgreSQL"


@dataclass(frozen=True, slots=True)
class SitePlan:
    """`steps` are what will be done, in order, in words; `problems` what stands in the way, all of it;
    `warnings` documents of backups that cannot be believed: nothing is brought back from those."""

    bucket: Bucket
    stores: tuple[StorePlan, ...]
    steps: tuple[str, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()


def data_directory(settings: Settings) -> Path:
    """Where the embedded servers keep theirs."""
    return for_servers(settings.home, server_user()) / "data"


def plan(
    settings: Settings,
    lost: Sequence[Lost] = LOST,
    *,
    bucket: Bucket = "copy",
    begun: Sequence[str] = (),
    named: Mapping[str, str] = MappingProxyType({}),
    until: str | None = None,
    outside: Sequence[str] = (),
    progress: Progress = silent,
) -> SitePlan:
    """Of stores that are to be brought back. `begun` are those of a recovery that is under way: their
    directories may be full. `named` are backups to start from, by store, instead of the newest; `until` is
    the moment that PostgreSQL is brought back to, else the end of WAL. `outside` are stores with an address
    of their own.

    Raises UsageError for a moment that is none, and what opening the bucket raises (no key file, no answer).
    """
    now = datetime.now(UTC)
    data = data_directory(settings)
    stores: list[StorePlan] = []
    problems: list[Problem] = []
    warnings: list[Problem] = []
    if until is not None:
        targets.check(Target("moment", until))
    with Opened.of(settings, new=False, bucket=bucket, progress=progress) as opened:
        for store in LOST:
            if store not in lost:
                continue
            try:
                if store == "files":
                    found = site_sources.files(opened)
                elif store == "postgres":
                    found = site_sources.postgres(
                        settings, opened, data, now, named.get(store), until, warnings
                    )
                else:
                    found = site_sources.newest(opened, store, data, now, named.get(store), warnings)
            except BiltenError as error:
                problems += error.problems
                continue
            stores.append(found)
            if store in outside and (by_hand := _by_hand(found, bucket)) is not None:
                problems.append(by_hand)
            for key in found.keys:
                try:
                    opened.ring.key(key)
                except BiltenError as error:
                    problems += error.problems
            if found.directory is not None and found.store not in (*begun, *outside):
                problems += _in_the_way(found.directory)
    problems += _room(data, stores)
    spooled = [_shipped(each.spool, bucket) for each in stores if each.spool is not None]
    steps = (*spooled, *(_step(each, bucket) for each in stores))
    epoch = "a new epoch of PostgreSQL; Dagster's runs that it calls unfinished canceled: nobody serves them"
    last = (
        *([epoch] if "postgres" in lost else []),
        "servers started; another epoch of the sync accepted, keys swept, touched days built",
        "every row of every synced table compared between PostgreSQL and ClickHouse",
        *([_SEARCH] if settings.opensearch.enabled else []),
    )
    return SitePlan(bucket, tuple(stores), (*steps, *last), tuple(dict.fromkeys(problems)), tuple(warnings))


def _by_hand(each: StorePlan, bucket: Bucket) -> Problem | None:
    """ClickHouse is restored over its own protocol, wherever it is."""
    match each.store:
        case "postgres":
            how = (
                f"on its machine: bilten restore postgres --latest --bucket {bucket} --to DIR --start; insert"
                " into system.restores (reason) values ('site lost'); bilten restore stop DIR; start the"
                " server on it; bilten recover runs --execute, and only then Dagster"
            )
        case "redis":
            how = (
                f"on its machine: bilten restore redis --backup {each.backup_id} --bucket {bucket} --to DIR;"
                " start the server on it"
            )
        case _:
            return None
    return Problem(
        f"{each.store} has an address: its data directory is not ours",
        expected="a server of the embedded stack, whose directory is filled here",
        found="a server of your own",
        next=f"{how}; then this command with --store for the others",
    )


def _in_the_way(directory: Path) -> list[Problem]:
    if not directory.exists() or not any(directory.iterdir()):
        return []
    return [
        Problem(
            f"{directory} is not empty",
            expected="no files: nothing is ever restored over data",
            found="files of a server",
            next=f"bilten down; mv {directory} {directory}.lost, and remove that when all is well again",
        )
    ]


def _room(data: Path, stores: Sequence[StorePlan]) -> list[Problem]:
    place = next(parent for parent in (data, *data.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    needed = sum(each.needed_bytes for each in stores)
    if needed <= free:
        return []
    return [
        Problem(
            f"{place} has too little room",
            expected=f"{needed >> 20:,} MiB",
            found=f"{free >> 20:,} MiB",
            next="set BILTEN_HOME to a directory on another file system",
        )
    ]


def _shipped(spool: Beyond, bucket: Bucket) -> str:
    return (
        f"{spool.segments} segments of WAL that only this machine has, up to {spool.until_lsn}, from"
        f" {spool.directory} into the {'second' if bucket == 'copy' else 'first'} bucket"
    )


def _step(each: StorePlan, bucket: Bucket) -> str:
    where = f"{each.stored_bytes >> 20:,} MiB from the {'second' if bucket == 'copy' else 'first'} bucket"
    match each.store:
        case "postgres":
            return f"PostgreSQL from {each.backup_id} and the WAL behind it into {each.directory}, {where}"
        case "redis":
            return f"Redis from {each.backup_id} into {each.directory}, {where}"
        case "clickhouse":
            return f"ClickHouse from {each.backup_id} into the empty server, {where}"
        case "files":
            return f"files of the application into their buckets, {where}"
