"""The past that the page shows, on this machine's disk: so that it is there while every store is down.

A file of its own beside the ledger: what is lost with it are pictures, and whatever happens to it, alerts go
on. Each write is one transaction; a kill loses at most a minute of samples. A file that cannot be read is put
aside and begun anew, for everything but samples is found again in the stores.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from bilten_orchestration.observability import history, installed
from bilten_orchestration.observability.board import Entry
from bilten_orchestration.observability.finding import Promise
from bilten_orchestration.observability.history import DAYS, Cell, History, Level, Samples

#: Promises whose only trace is that somebody looked, by the first part of their name.
SAMPLED: Final = ("search_lag", "sync_lag", "rpo")
_KEPT: Final = timedelta(days=2 * DAYS)

_NEWEST_HOLDS: Final = "update set state = excluded.state, said = excluded.said"
_SCHEMA: Final = """
    create table if not exists cell (
        subject text not null, day text not null, state text not null, said text not null,
        primary key (subject, day)
    ) strict, without rowid;
    create table if not exists level (
        subject text not null, day text not null, bytes integer not null, primary key (subject, day)
    ) strict, without rowid;
    create table if not exists sample (
        subject text not null, day text not null, kept integer not null, missed integer not null,
        unknown integer not null, not_yet integer not null, primary key (subject, day)
    ) strict, without rowid;
    create table if not exists began (at text not null) strict;
"""


class Chronicle:
    """One file, written by one thread; `history` is for everybody, and is replaced as a whole."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / "history.sqlite"
        self._directory = directory
        self._guard = threading.Lock()
        self._connection, self._began = _opened(path)
        self._seen: dict[str, datetime] = {}
        self._sampled_at: datetime | None = None
        self.history = self._read(datetime.now(UTC))

    def close(self) -> None:
        with self._guard:
            self._connection.close()

    def turn(self, entries: Mapping[str, Entry], now: datetime) -> None:
        """Take what sources found since the last turn, and a sample of how promises stand."""
        cells: list[Cell] = []
        levels: list[Level] = []
        for name, entry in entries.items():
            if entry.reading is None or entry.read_at is None or self._seen.get(name) == entry.read_at:
                continue
            cells += entry.reading.cells
            levels += entry.reading.levels
        samples: list[tuple[Promise, bool]] = []
        if self._sampled_at is None or now - self._sampled_at >= timedelta(seconds=history.SAMPLE_SECONDS):
            samples = [
                (promise, entry.fresh)
                for entry in entries.values()
                for promise in (() if entry.reading is None else entry.reading.promises)
                if promise.name.partition("/")[0] in SAMPLED
            ]
        if not (cells or levels or samples):
            return
        with self._guard:
            self._write(cells, levels, samples, now)
            self.history = self._read(now)
        if samples:
            self._sampled_at = now
        self._seen = {name: entry.read_at for name, entry in entries.items() if entry.read_at is not None}

    def _write(
        self,
        cells: Iterable[Cell],
        levels: Iterable[Level],
        samples: Iterable[tuple[Promise, bool]],
        now: datetime,
    ) -> None:
        today = str(now.astimezone(UTC).date())
        connection = self._connection
        connection.execute("begin immediate")
        try:
            for cell in cells:
                connection.execute(
                    "insert into cell values (?, ?, ?, ?) on conflict do "
                    + (
                        "nothing"
                        if cell.first_holds
                        else "update set state = excluded.state, said = excluded.said"
                    ),
                    (cell.subject, str(cell.day), cell.state, cell.said),
                )
            connection.executemany(
                "insert into level values (?, ?, ?) on conflict do update set bytes = excluded.bytes",
                [(level.subject, str(level.day), level.bytes) for level in levels],
            )
            for promise, fresh in samples:
                how = _how(promise, fresh)
                connection.execute(
                    "insert into sample values (?, ?, ?, ?, ?, ?)"
                    f" on conflict do update set {how} = {how} + 1",
                    (
                        promise.name,
                        today,
                        *(int(how == each) for each in ("kept", "missed", "unknown", "not_yet")),
                    ),
                )
            before = str((now - _KEPT).date())
            for table in ("cell", "level", "sample"):
                connection.execute(f"delete from {table} where day < ?", (before,))
            connection.execute("commit")
        except BaseException:
            if connection.in_transaction:
                connection.execute("rollback")
            raise

    def _read(self, now: datetime) -> History:
        days = history.last_days(now)
        first = str(days[0])
        cells = {
            (subject, date.fromisoformat(day)): Cell(subject, date.fromisoformat(day), state, said)
            for subject, day, state, said in self._connection.execute(
                "select subject, day, state, said from cell where day >= ?", (first,)
            )
        }
        for subject, day, *counts in self._connection.execute(
            "select subject, day, kept, missed, unknown, not_yet from sample where day >= ?", (first,)
        ):
            at = date.fromisoformat(day)
            cells[subject, at] = history.of_samples(subject, at, Samples(*counts), since=self._began, now=now)
        levels = {
            (subject, date.fromisoformat(day)): Level(subject, date.fromisoformat(day), size)
            for subject, day, size in self._connection.execute(
                "select subject, day, bytes from level where day >= ?", (first,)
            )
        }
        return History(cells, levels, installed.recorded(self._directory))


def _how(promise: Promise, fresh: bool) -> str:
    if not fresh:
        return "unknown"
    if promise.not_due:
        return "not_yet"
    return "unknown" if promise.kept is None else "kept" if promise.kept else "missed"


def _opened(path: Path) -> tuple[sqlite3.Connection, datetime]:
    """A file that is damaged is put aside; where there can be none (a full disk), this start has no other
    memory than its own."""
    try:
        return _begun(path)
    except sqlite3.OperationalError:
        return _begun(None)
    except sqlite3.DatabaseError:
        for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            with contextlib.suppress(FileNotFoundError):
                file.replace(file.with_name(f"{file.name}.damaged"))
        return _begun(path)


def _begun(path: Path | None) -> tuple[sqlite3.Connection, datetime]:
    connection = sqlite3.connect(
        path or ":memory:", timeout=10, isolation_level=None, check_same_thread=False
    )
    try:
        if path is not None:
            path.chmod(0o600)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")
        connection.executescript(_SCHEMA)
        connection.execute("pragma quick_check").fetchall()
        connection.execute(
            "insert into began select ? where not exists (select 1 from began)",
            (datetime.now(UTC).isoformat(),),
        )
        ((began,),) = connection.execute("select min(at) from began").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection, datetime.fromisoformat(began)
