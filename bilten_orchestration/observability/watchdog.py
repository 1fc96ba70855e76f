"""The watchdog: everything that runs in `bilten serve`, as threads of one process.

    read <source>   one per source: a store that hangs holds up its own source alone
    judge           every few seconds: findings become incidents and messages, in one transaction on disk
    postman <n>     one per receiver: sends what is due
    record          copies incidents to PostgreSQL when it is there
    owners          asks Dagster who owns what
    history         keeps on disk what the page shows of the past
    dead man        calls an address elsewhere while the judge does its work

A kill at any line leaves what the ledger holds (ledger.py), and that is enough for the next start. A second
watchdog in the same state directory is refused by a lock.
"""

from __future__ import annotations

import threading
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from bilten_orchestration.errors import BiltenError
from bilten_orchestration.file_lock import exclusive
from bilten_orchestration.observability import board as boards
from bilten_orchestration.observability import quiet, record
from bilten_orchestration.observability.board import Board, Entry, Reader, Source
from bilten_orchestration.observability.chronicle import Chronicle
from bilten_orchestration.observability.delivery import Postman, Send, send
from bilten_orchestration.observability.finding import Finding
from bilten_orchestration.observability.history import History
from bilten_orchestration.observability.incidents import Incident, Rules, judge
from bilten_orchestration.observability.installed import Installation
from bilten_orchestration.observability.ledger import Ledger, Post
from bilten_orchestration.observability.owners import Owners
from bilten_orchestration.observability.receivers import Receiver, receivers, route
from bilten_orchestration.observability.secrecy import Secrecy
from bilten_orchestration.observability.tally import Tally
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings

JUDGE_SECONDS: Final = 3.0
RECORD_SECONDS: Final = 10.0
REMEMBER_SECONDS: Final = 10.0
#: Without a judgement for so long the watchdog counts as dead itself.
SILENCE_SECONDS: Final = 60.0
_UNKNOWN_AFTER: Final = timedelta(minutes=5)
_CALL_SECONDS: Final = 10
_UNDELIVERED: Final = timedelta(days=2)
_ADOPT_SECONDS: Final = 30.0


def directory(settings: Settings) -> Path:
    """Where the watchdog keeps its state."""
    return settings.home / "watchdog"


def every_source(settings: Settings, owners: Owners) -> list[Source]:
    from bilten_orchestration.observability.exporter import listing
    from bilten_orchestration.observability.sources import (
        code_location,
        dagster,
        disks,
        past,
        promises,
        queries,
        repository,
        stores,
        wal,
    )

    installed = Installation(settings, directory(settings))
    return [
        *stores.sources(settings),
        dagster.DagsterRuns(settings, owners),
        dagster.DagsterChecks(settings, owners),
        code_location.CodeLocation(settings),
        disks.LocalDisks(settings),
        disks.ClickHouseDisks(settings),
        wal.WalStream(settings, installed),
        wal.WalSource(settings),
        promises.Marts(settings, installed),
        promises.Lags(settings, installed),
        promises.Partitions(settings),
        repository.Repository(settings, installed),
        queries.Statements(settings),
        past.PostgresSizes(settings),
        past.ClickHouseDays(settings, installed),
        *listing.sources(settings),
    ]


class Watchdog:
    """One of them; `with opened(...)` makes it, `start` sets it to work."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        chronicle: Chronicle,
        sources: Sequence[Source],
        owners: Owners,
        stop: threading.Event,
        progress: Progress,
        *,
        deliver: Send = send,
    ) -> None:
        self.settings, self.ledger, self.owners = settings, ledger, owners
        self._chronicle = chronicle
        self.receivers: tuple[Receiver, ...] = receivers(settings.alerts)
        self.board = Board(sources)
        self.started_at = datetime.now(UTC)
        self.judged_at: float | None = None  # monotonic
        # as of the newest judgement, for answers that must not wait for the disk
        self.open: tuple[Incident, ...] = ()
        self.undelivered = 0
        self.tally = Tally()
        self._sources, self._stop_asked, self._progress = sources, stop, progress
        self._deliver = deliver
        self.secrecy = Secrecy(settings)
        alerts = settings.alerts
        self._rules = Rules(
            timedelta(seconds=alerts.open_after_seconds), timedelta(seconds=alerts.recover_after_seconds)
        )
        self._threads: list[threading.Thread] = []

    @property
    def history(self) -> History:
        """From memory."""
        return self._chronicle.history

    @property
    def alive(self) -> bool:
        """Whether it judges: what the dead man's switch and /health/live tell."""
        judged = self.judged_at
        return judged is not None and time.monotonic() - judged < SILENCE_SECONDS

    def start(self) -> None:
        self.ledger.abandon([receiver.id for receiver in self.receivers])
        stop = self._stop_asked
        self._threads = [
            *(Reader(self.board, source, stop, self._progress) for source in self._sources),
            *(
                Postman(self.settings, self.ledger, receiver, stop, self._progress, deliver=self._deliver)
                for receiver in self.receivers
            ),
            threading.Thread(target=self._judge, name="judge", daemon=True),
            threading.Thread(target=self._record, name="record", daemon=True),
            threading.Thread(target=lambda: self.owners.run(stop), name="owners", daemon=True),
            threading.Thread(target=self._remember, name="history", daemon=True),
        ]
        if self.settings.serve.dead_man_url.get_secret_value():
            self._threads.append(threading.Thread(target=self._call, name="dead man", daemon=True))
        for thread in self._threads:
            thread.start()

    def join(self, seconds: float) -> None:
        """Wait for them to end; one that hangs in a store is left behind, for it holds nothing."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def turn(self, now: datetime) -> None:
        """One judgement: what every source says now, against what is known."""
        entries = self.board.entries(now)
        self.tally.count(entries.values())
        found = {
            name: tuple(map(self._clean, findings))
            for name, findings in boards.findings(entries, now, patience=_UNKNOWN_AFTER).items()
        }
        known = self.ledger.current()
        # what is not watched any more (search that was turned off) is over
        found |= {each.source: () for each in known.values() if each.source not in {*entries, boards.UNKNOWN}}
        alerts = self.settings.alerts
        outcome = judge(known, found, now=now, rules=self._rules, owner=alerts.owner)
        posts = [
            Post(
                notice.incident,
                notice.event,
                receiver.id,
                quiet.not_before(notice.incident.severity, now, alerts),
            )
            for notice in outcome.notices
            for receiver in route(self.receivers, notice.incident.owner, notice.incident.severity)
        ]
        self.ledger.save(outcome, posts, now)
        left = {each.id: each for each in known.values()} | {each.id: each for each in outcome.changed}
        self.open = tuple(
            sorted((each for each in left.values() if each.is_open), key=lambda each: (each.since, each.key))
        )
        self.undelivered = len(self.ledger.undelivered(now - _UNDELIVERED))
        for notice in outcome.notices:
            self._progress(f"{notice.event}: {notice.incident.key}: {notice.incident.problem.what}")

    def entries(self) -> Mapping[str, Entry]:
        return self.board.entries(datetime.now(UTC))

    def _clean(self, finding: Finding) -> Finding:
        return replace(finding, problem=self.secrecy.problem(finding.problem))

    def _judge(self) -> None:
        if self.ledger.new:
            self._adopt()
        while not self._stop_asked.is_set():
            with self._told("judge"):
                self.turn(datetime.now(UTC))
                self.judged_at = time.monotonic()
            self._stop_asked.wait(JUDGE_SECONDS)

    def _adopt(self) -> None:
        """A state directory that was lost: what is open is in PostgreSQL, unless that is down as well."""
        try:
            record.connected(
                self.settings,
                lambda connection: self.ledger.adopt(record.open_incidents(connection)),
                _ADOPT_SECONDS,
            )
        except BiltenError as error:
            self._progress(f"the ledger is new, and PostgreSQL does not tell what is open: {error}")

    def _record(self) -> None:
        pruned, told = 0.0, False
        while not self._stop_asked.is_set():
            with self._told("record"):
                try:
                    if self.ledger.unrecorded(1):
                        record.connected(self.settings, lambda it: record.write(self.ledger, it), 60)
                    if not pruned or time.monotonic() - pruned > 86_400:
                        self.ledger.prune(datetime.now(UTC))
                        record.connected(self.settings, record.prune, 60)
                        pruned = time.monotonic()
                    told = False
                except BiltenError as error:
                    if not told:  # that PostgreSQL is away is an incident of its own
                        self._progress(f"incidents wait on disk: {error.problems[0].what}")
                    told = True
            self._stop_asked.wait(RECORD_SECONDS)

    def _remember(self) -> None:
        while not self._stop_asked.is_set():
            with self._told("history"):
                self._chronicle.turn(self.entries(), datetime.now(UTC))
            self._stop_asked.wait(REMEMBER_SECONDS)

    def _call(self) -> None:
        url = self.settings.serve.dead_man_url.get_secret_value()
        told = False
        while not self._stop_asked.is_set():
            if self.alive:
                try:
                    with urllib.request.urlopen(url, timeout=_CALL_SECONDS) as answer:  # noqa: S310
                        answer.read(1024)
                    told = False
                except (OSError, ValueError, urllib.error.URLError) as error:
                    if not told:
                        self._progress(
                            f"the dead man's switch does not answer: {self.secrecy.clean(str(error))}"
                        )
                    told = True
            self._stop_asked.wait(self.settings.serve.dead_man_seconds if self.alive else 1.0)

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """What fails in a turn is told in the log, and the next turn tries again; the judge that does not
        come to its end is what /health/live and the dead man's switch tell."""
        try:
            yield
        except Exception:  # noqa: BLE001 a defect must not end the thread that would tell of it
            self._progress(f"{doing}: {self.secrecy.clean(traceback.format_exc())}")


@contextmanager
def opened(
    settings: Settings,
    stop: threading.Event,
    progress: Progress = silent,
    *,
    sources: Callable[[Settings, Owners], Sequence[Source]] = every_source,
    deliver: Send = send,
) -> Iterator[Watchdog]:
    """A watchdog of this state directory, not at work yet; stopped at the end.

    Raises LockHeld when another one is at work there, SettingsError for receivers that are none.
    """
    place = directory(settings)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive(place / "lock", "serve", progress, wait_seconds=0):
        ledger = Ledger(place)
        chronicle = Chronicle(place)
        try:
            owners = Owners(settings, place, progress)
            watchdog = Watchdog(
                settings,
                ledger,
                chronicle,
                sources(settings, owners),
                owners,
                stop,
                progress,
                deliver=deliver,
            )
            try:
                yield watchdog
            finally:
                stop.set()
                watchdog.join(seconds=5)
        finally:
            chronicle.close()
            ledger.close()
