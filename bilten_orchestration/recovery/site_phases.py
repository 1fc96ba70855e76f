"""What each phase of a recovery of a site does; site.py says in which order, and what a kill in each leaves.

Each looks at what it finds before it takes it for the work of an earlier call, so that it can be done again.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bilten_orchestration.backups.postgres import private, programs, recovery
from bilten_orchestration.backups.repository.opened import Bucket
from bilten_orchestration.errors import Mismatch, Problem, Refused
from bilten_orchestration.local.privileges import passable_directory
from bilten_orchestration.progress import Progress
from bilten_orchestration.recovery import dagster_runs, site_spool, site_state
from bilten_orchestration.recovery.dagster_runs import Unserved
from bilten_orchestration.recovery.site_plan import data_directory
from bilten_orchestration.recovery.site_state import SiteState
from bilten_orchestration.settings import Settings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_WRITTEN = "# written by `bilten restore`"
_MARK = "bilten_recover_site"
_OURS = (recovery.WAL, "bilten_hba.conf", private.LOG, private.RECORD)


def bucket_of(state: SiteState) -> Bucket:
    return "first" if state.bucket == "first" else "copy"


def is_gone(settings: Settings, store: str) -> bool:
    """Whether there is nothing in its directory."""
    directory = data_directory(settings) / store
    return not directory.exists() or not any(directory.iterdir())


def postgres(settings: Settings, state: SiteState, progress: Progress) -> SiteState:
    """The state, in which it is written what it came back from."""
    from bilten_orchestration.backups.postgres.restore import restore
    from bilten_orchestration.backups.postgres.targets import Target

    directory = _data(settings) / "postgres"
    named = state.named.get("postgres")
    if (directory / recovery.WAL).exists():
        # whole, and killed before that was written down
        found = recovery.Stored.read(directory)
        if named not in (None, found.backup_id) or state.until != found.moment:
            raise Refused(
                f"{directory} was restored already",
                expected=f"from {named or 'the newest backup'}, up to {state.until or 'the end of WAL'}",
                found=f"from {found.backup_id}, up to {found.moment or 'the end of WAL'}",
                next=f"mv {directory} {directory}.other, and this command again; or without these options",
            )
        backup = found.backup_id
    else:
        site_spool.ship(settings, bucket_of(state), progress)
        until = state.until
        target = Target("latest", backup=named) if until is None else Target("moment", until, named)
        backup = restore(settings, target, directory, bucket=bucket_of(state), progress=progress).backup_id
    return site_state.chosen(settings, state, {"postgres": backup})


def epoch(settings: Settings, state: SiteState, progress: Progress) -> tuple[SiteState, tuple[Unserved, ...]]:
    """The proof that all of the stored WAL was replayed, then the restore's id, and the end of Dagster's
    runs that nobody serves: those are returned. Nobody else reaches the server yet, so all that it calls
    unfinished are such.

    Raises Mismatch when replay ended early: ClickHouse must not be swept down to that.
    """
    directory = _data(settings) / "postgres"
    if (directory / private.RECORD).exists():
        private.stop(directory)  # left by a call that was killed
    bin_directory = programs.directory(settings.postgres, int((directory / "PG_VERSION").read_text()))
    running = private.start(
        directory, bin_directory, settings.postgres, private.owner_of(directory), progress
    )
    why = f"bilten recover site, from {state.backups['postgres']}"
    try:
        with running.connect() as connection:
            # with its row an earlier call has proven it, and may have begun to tidy
            proven = connection.execute("select 1 from system.restores where id = %s", (state.id,)).fetchone()
            if proven is None:
                state = site_state.reached(settings, state, _reached(running, progress))
            connection.execute(
                "insert into system.restores (id, reason) values (%s, %s) on conflict (id) do nothing",
                (state.id, why),
            )
        alone = settings.postgres.model_copy(update={"host": str(running.socket), "port": private.PORT})
        canceled = dagster_runs.cancel(settings.model_copy(update={"postgres": alone}), why, progress)
    finally:
        private.stop(directory)
    _tidy(directory)
    return state, canceled


def _reached(running: private.Running, progress: Progress) -> datetime | None:
    try:
        at = recovery.reached(running).at
    except Mismatch as error:
        (problem,) = error.problems
        lost = running.directory
        raise Mismatch(
            problem.what,
            expected=problem.expected,
            found=problem.found,
            next=f"bilten wal audit --deep shows what is damaged; mv {lost} {lost}.short, then this command"
            " again with the other --bucket, or with a moment before that by --target-time",
        ) from None
    if at is not None:
        progress(f"replayed up to the commit of {at:%F %T} UTC")
    return at


def redis(settings: Settings, state: SiteState, progress: Progress) -> None:
    from bilten_orchestration.backups.redis.restore import restore

    directory = _data(settings) / "redis"
    backup = state.backups["redis"]
    if (mark := directory / _MARK).exists() and (told := mark.read_text().split())[:1] == [state.id]:
        if told[1:] == [backup]:
            return  # whole, and killed before that was written down
        shutil.rmtree(directory)  # ours, no server was started on it, and another backup was named since
    growing = directory.with_name("redis.recovered")
    shutil.rmtree(growing, ignore_errors=True)
    restore(settings, backup, growing, bucket=bucket_of(state), progress=progress)
    (growing / _MARK).write_text(f"{state.id} {backup}")
    try:
        growing.rename(directory)
    except OSError:
        raise Refused(
            f"{directory} is not empty",
            expected="no files: nothing is ever restored over data",
            found="files that came since this recovery began",
            next=f"bilten down; mv {directory} {directory}.other; then this command again",
        ) from None


def clickhouse(settings: Settings, state: SiteState, progress: Progress) -> SiteState:
    """The state, in which it is written that databases are ours to drop from here on."""
    from bilten_orchestration.backups.clickhouse import server
    from bilten_orchestration.backups.clickhouse.restore import Wanted, restore
    from bilten_orchestration.stores import clickhouse as stores

    client = stores.connect(settings.clickhouse)
    try:
        if site_state.CLICKHOUSE_BEGUN not in state.done:
            _refuse_tables(client, server.DATABASES)
            state = site_state.advance(settings, state, site_state.CLICKHOUSE_BEGUN)
        for database in server.DATABASES:
            client.command(f"drop database if exists `{database}` sync")
    finally:
        client.close()
    restore(
        settings,
        state.backups["clickhouse"],
        Wanted(bucket=bucket_of(state)),
        by="bilten recover site",
        progress=progress,
    )
    return state


def files(settings: Settings, progress: Progress) -> tuple[Problem, ...]:
    """What is wrong with single ones."""
    from bilten_orchestration.recovery import site_files

    report = site_files.copy_back(settings, progress)
    progress(f"{report.copied:,} files copied back, {report.present:,} were there")
    return report.problems


def _data(settings: Settings) -> Path:
    data = data_directory(settings)
    return passable_directory(data)


def _refuse_tables(client: Client, databases: Sequence[str]) -> None:
    found = client.query(
        "select database, count() from system.tables where database in {names:Array(String)}"
        " group by database order by database",
        {"names": list(databases)},
    ).result_rows
    if found:
        raise Refused(
            "the ClickHouse that is to be filled is not empty",
            expected="no table of the platform: nothing is ever restored over data",
            found=", ".join(f"{number} in {name}" for name, number in found),
            next="if it is not lost, leave it out: --store; else drop these databases",
        )


def _tidy(directory: Path) -> None:
    """What the restore told the server is over: behind its promotion it is as any other."""
    automatic = directory / "postgresql.auto.conf"
    automatic.write_text(automatic.read_text().partition(_WRITTEN)[0])
    for name in _OURS:
        path = directory / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
