"""Incidents and messages on this machine's disk: what the watchdog knows when it starts again.

SQLite in the state directory, for PostgreSQL may be what is down. An incident and the messages about it are
written in one transaction, so that a kill leaves both or neither. What a kill leaves of a message:

    1. before `sending`      it waits, and is sent once
    2. while it is sent      it is `sending`: nobody knows whether the receiver has it. It is sent again, and
                             says that it may be a repetition: one too many is better than none
    3. after `sent`          it was sent, and is never sent again

The disk that is full is one of the things to tell: a ballast file is given up for that moment.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import TypeAdapter

from bilten_orchestration.observability.finding import Severity
from bilten_orchestration.observability.incidents import Event, Incident, Outcome

KEPT: Final = timedelta(days=90)
_BALLAST_BYTES: Final = 4 << 20
_BUSY_SECONDS: Final = 10.0
_INCIDENT: TypeAdapter[Incident] = TypeAdapter(Incident)

_SCHEMA = """
    create table if not exists incident (
        id text primary key, key text not null, document text not null,
        opened_at real, resolved_at real, recorded integer not null default 0
    ) strict;
    create unique index if not exists incident_current on incident (key) where resolved_at is null;
    create index if not exists incident_unrecorded on incident (id) where recorded = 0;
    create table if not exists message (
        id integer primary key autoincrement, incident_id text not null, event text not null,
        receiver text not null, severity text not null, document text not null,
        created_at real not null, not_before real not null, next_try_at real not null,
        state text not null default 'waiting' check (state in ('waiting', 'sending', 'sent', 'failed')),
        attempts integer not null default 0, repeated integer not null default 0,
        error text not null default '', sent_at real, envelope text
    ) strict;
    create index if not exists message_due on message (receiver, id) where state in ('waiting', 'sending');
    create index if not exists message_sent on message (receiver, sent_at) where state = 'sent';
    create index if not exists message_incident on message (incident_id);
"""

State = Literal["waiting", "sending", "sent", "failed"]


@dataclass(frozen=True, slots=True)
class Post:
    """A message to be kept, for one receiver."""

    incident: Incident
    event: Event
    receiver: str
    not_before: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """`incident` as it was when the message was made; `repeated`: it may have been sent before."""

    id: int
    incident: Incident
    event: Event
    receiver: str
    severity: Severity
    created_at: datetime
    next_try_at: datetime
    state: State
    attempts: int
    repeated: bool
    error: str
    sent_at: datetime | None


_COLUMNS = (
    "id, document, event, receiver, severity, created_at, max(next_try_at, not_before), state, attempts,"
    " repeated, error, sent_at"
)


class Ledger:
    """One file; threads may share the object. Every method is one transaction."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = place(directory)
        self._ballast = directory / "ballast"
        self._guard = threading.Lock()
        new = not self.path.exists()
        self._connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self.path.chmod(0o600)
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = full")
        self._connection.executescript(_SCHEMA)
        self.new = new
        self._fill_ballast()

    def close(self) -> None:
        with self._guard:
            self._connection.close()

    def current(self) -> dict[str, Incident]:
        """Suspected and open incidents, by key."""
        rows = self._read("select document from incident where resolved_at is null")
        found = (_INCIDENT.validate_json(document) for (document,) in rows)
        return {incident.key: incident for incident in found}

    def listed(self, since: datetime) -> list[Incident]:
        """Open ones, and those that were resolved since; oldest first."""
        rows = self._read(
            "select document from incident where opened_at is not null"
            " and (resolved_at is null or resolved_at >= ?) order by opened_at, key",
            (since.timestamp(),),
        )
        return [_INCIDENT.validate_json(document) for (document,) in rows]

    def save(self, outcome: Outcome, posts: Iterable[Post], now: datetime) -> None:
        """What was judged, and the messages about it."""
        waiting = list(posts)
        if not (outcome.changed or outcome.forgotten or waiting):
            return

        def write(connection: sqlite3.Connection) -> None:
            for incident in outcome.forgotten:
                connection.execute("delete from incident where id = ?", (incident.id,))
            for incident in outcome.changed:
                _keep(connection, incident)
            connection.executemany(
                "insert into message (incident_id, event, receiver, severity, document, created_at,"
                " not_before, next_try_at) values (?, ?, ?, ?, ?, ?, ?, 0)",
                [
                    (
                        post.incident.id,
                        post.event,
                        post.receiver,
                        post.incident.severity,
                        _INCIDENT.dump_json(post.incident).decode(),
                        now.timestamp(),
                        post.not_before.timestamp(),
                    )
                    for post in waiting
                ],
            )

        self._write(write)

    def adopt(self, incidents: Iterable[Incident]) -> None:
        """Open incidents that PostgreSQL knows and a new ledger does not: they were told already."""

        def write(connection: sqlite3.Connection) -> None:
            for incident in incidents:
                connection.execute(
                    "insert or ignore into incident (id, key, document, opened_at, recorded)"
                    " values (?, ?, ?, ?, 1)",
                    (
                        incident.id,
                        incident.key,
                        _INCIDENT.dump_json(incident).decode(),
                        _seconds(incident.opened_at),
                    ),
                )

        self._write(write)

    def unrecorded(self, limit: int) -> list[Incident]:
        """Opened incidents of which PostgreSQL does not know the newest state; resolved ones first, since
        there is one open incident of a key."""
        rows = self._read(
            "select document from incident where recorded = 0 and opened_at is not null"
            " order by resolved_at is null, opened_at limit ?",
            (limit,),
        )
        return [_INCIDENT.validate_json(document) for (document,) in rows]

    def recorded(self, incidents: Sequence[tuple[Incident, datetime | None]]) -> None:
        """PostgreSQL has them as they are here, with when somebody was told, unless that has changed since it
        was read."""
        rows = [
            (incident.id, _INCIDENT.dump_json(incident).decode(), _seconds(told_at))
            for incident, told_at in incidents
        ]
        self._write(
            lambda connection: connection.executemany(
                "update incident set recorded = 1 where id = ? and document = ? and ? is"
                " (select max(sent_at) from message where incident_id = incident.id and state = 'sent')",
                rows,
            )
        )

    def waiting(self, receiver: str) -> list[Message]:
        """Everything that this receiver has not got yet, in order."""
        return self._messages("receiver = ? and state in ('waiting', 'sending') order by id", receiver)

    def undelivered(self, since: datetime) -> list[Message]:
        """What was given up since then, and what waits after a failure, of every receiver."""
        return self._messages(
            "(state = 'failed' and created_at >= ?) or (state in ('waiting', 'sending') and error <> '')"
            " order by id",
            since.timestamp(),
        )

    def envelopes(self, receiver: str, since: datetime) -> list[tuple[datetime, int]]:
        """When something was sent to this receiver since then, and of how many incidents it told."""
        rows = self._read(
            "select max(sent_at), count(distinct incident_id) from message"
            " where receiver = ? and state = 'sent' and sent_at >= ? group by envelope order by 1",
            (receiver, since.timestamp()),
        )
        return [(datetime.fromtimestamp(at, UTC), count) for at, count in rows]

    def told_at(self, incident: str) -> datetime | None:
        """When a message about it last went out."""
        ((at,),) = self._read(
            "select max(sent_at) from message where incident_id = ? and state = 'sent'", (incident,)
        )
        return None if at is None else datetime.fromtimestamp(at, UTC)

    def counts(self) -> dict[tuple[str, str], int]:
        """Messages by receiver and state."""
        rows = self._read("select receiver, state, count(*) from message group by receiver, state")
        return {(receiver, state): count for receiver, state, count in rows}

    def interrupted(self, receiver: str) -> None:
        """Messages that somebody was sending who is no more: they may have arrived, and are sent again."""
        self._write(
            lambda connection: connection.execute(
                "update message set state = 'waiting', repeated = 1 where receiver = ? and state = 'sending'",
                (receiver,),
            )
        )

    def sending(self, messages: Sequence[Message], envelope: str) -> None:
        self._mark(messages, "state = 'sending', attempts = attempts + 1, envelope = ?", envelope)

    def sent(self, messages: Sequence[Message], now: datetime) -> None:
        """They arrived; PostgreSQL shall know when."""

        def write(connection: sqlite3.Connection) -> None:
            for message in messages:
                connection.execute(
                    "update message set state = 'sent', sent_at = ?, error = '' where id = ?",
                    (now.timestamp(), message.id),
                )
                connection.execute("update incident set recorded = 0 where id = ?", (message.incident.id,))

        self._write(write)

    def put_back(self, messages: Sequence[Message], error: str, next_try_at: datetime) -> None:
        self._mark(messages, "state = 'waiting', error = ?, next_try_at = ?", error, next_try_at.timestamp())

    def given_up(self, messages: Sequence[Message], error: str) -> None:
        self._mark(messages, "state = 'failed', error = ?", error)

    def abandon(self, receivers: Sequence[str]) -> None:
        """Messages to receivers that are not among these any more: nobody sends them."""
        marks = ", ".join("?" * len(receivers))
        self._write(
            lambda connection: connection.execute(
                "update message set state = 'failed', error = 'the receiver is not in the settings any more'"
                f" where state in ('waiting', 'sending') and receiver not in ({marks})",
                tuple(receivers),
            )
        )

    def prune(self, now: datetime) -> None:
        """What is over for longer than `KEPT`."""
        before = (now - KEPT).timestamp()

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "delete from message where state in ('sent', 'failed') and created_at < ?", (before,)
            )
            connection.execute("delete from incident where resolved_at < ? and recorded = 1", (before,))

        self._write(write)

    def _messages(self, condition: str, *values: object) -> list[Message]:
        return [
            _message(row) for row in self._read(f"select {_COLUMNS} from message where {condition}", values)
        ]

    def _mark(self, messages: Sequence[Message], assignment: str, *values: object) -> None:
        rows = [(*values, message.id) for message in messages]
        self._write(
            lambda connection: connection.executemany(f"update message set {assignment} where id = ?", rows)
        )

    def _read(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._guard:
            return self._connection.execute(statement, tuple(values)).fetchall()

    def _write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        with self._guard:
            try:
                with self._transaction():
                    work(self._connection)
            except sqlite3.OperationalError as error:
                if "full" not in str(error) or not self._ballast.exists():
                    raise
                self._ballast.unlink()
                with self._transaction():
                    work(self._connection)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("begin immediate")
        try:
            yield
        except BaseException:
            # a full disk may have ended it already
            if self._connection.in_transaction:
                self._connection.execute("rollback")
            raise
        self._connection.execute("commit")

    def _fill_ballast(self) -> None:
        if not self._ballast.exists():
            with contextlib.suppress(OSError):  # none on a full disk: then there is nothing to give up
                self._ballast.write_bytes(b"\0" * _BALLAST_BYTES)


def place(directory: Path) -> Path:
    return directory / "watchdog.sqlite"


def _keep(connection: sqlite3.Connection, incident: Incident) -> None:
    document = _INCIDENT.dump_json(incident).decode()
    connection.execute(
        "insert into incident (id, key, document, opened_at, resolved_at) values (?, ?, ?, ?, ?)"
        " on conflict (id) do update set document = excluded.document, opened_at = excluded.opened_at,"
        " resolved_at = excluded.resolved_at, recorded = 0",
        (
            incident.id,
            incident.key,
            document,
            _seconds(incident.opened_at),
            _seconds(incident.resolved_at),
        ),
    )


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def _message(row: tuple[Any, ...]) -> Message:
    (number, document, event, receiver, severity, created, next_try, state, attempts, again, error, sent) = (
        row
    )
    return Message(
        id=number,
        incident=_INCIDENT.validate_json(document),
        event=event,
        receiver=receiver,
        severity=severity,
        created_at=datetime.fromtimestamp(created, UTC),
        next_try_at=datetime.fromtimestamp(next_try, UTC),
        state=state,
        attempts=attempts,
        repeated=bool(again),
        error=error,
        sent_at=None if sent is None else datetime.fromtimestamp(sent, UTC),
    )
