"""What a drill tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bilten_orchestration.drills.plan import Drilled
from bilten_orchestration.errors import Problem

#: What answers on their way, and the whole seconds of HTTP, leave of two clocks that agree.
CLOCKS_APART = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Proof:
    """One thing that was proven of what was restored, or not: `expected` and `found` in words.

    `warns` for what makes nobody's data wrong (a fall against the previous drill): it is told, and the drill
    passes.
    """

    name: str
    ok: bool
    expected: str
    found: str
    seconds: float
    warns: bool = False


@dataclass(frozen=True, slots=True)
class SeenTable:
    """The digest of a table of PostgreSQL's production, as of a drill's point: `rows` and `hash`. `files` are
    numbers of its database and of its file (its TOAST's too), `layout` is a hash of its columns. `read_at` is
    when it was last read, by the server's clock: later drills may have found it unchanged."""

    rows: int
    hash: str
    files: tuple[tuple[int, int], ...]
    layout: str
    read_at: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """What a drill saw of a server's timeline. Whoever writes a row that it did not see, writes it into WAL
    behind `since` (an LSN). `types` is a hash of what is common to the text of all rows."""

    system_identifier: str
    timeline: int
    since: str
    types: str
    tables: Mapping[str, SeenTable]


@dataclass(frozen=True, slots=True)
class DrillReport:
    """One drill. Times are UTC.

    `rto_seconds` is from the order to the first accepted query, `rpo_seconds` what would have been lost by
    the newest sample before the order: both None where the drill did not come so far, or the way has none.
    `phases` are seconds by name, in the order in which they were gone through; proofs take their own.
    `restored_bytes` are those of the files that came back, `stored_bytes` what was downloaded for them.
    `problems` are why it failed: `failed_phase` says where. `figures` are further numbers of that way,
    `counts` what came back by name (rows per table, keys per pattern): the next drill compares with it.
    `seen` are digests of production: the next drill need not read again what has not changed since.
    """

    id: str
    store: Drilled
    way: str
    started_at: datetime
    finished_at: datetime
    ok: bool
    backups: tuple[str, ...] = ()
    bucket: str | None = None
    reached_at: datetime | None = None
    reached_lsn: str | None = None
    rpo_seconds: float | None = None
    rto_seconds: float | None = None
    restored_bytes: int = 0
    stored_bytes: int = 0
    phases: Mapping[str, float] = field(default_factory=dict)
    proofs: tuple[Proof, ...] = ()
    failed_phase: str | None = None
    problems: tuple[Problem, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    run: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    seen: Seen | None = None

    @property
    def warnings(self) -> tuple[Proof, ...]:
        """What does not fail a drill and must be looked at."""
        return tuple(proof for proof in self.proofs if proof.warns and not proof.ok)

    @property
    def restored_bytes_per_second(self) -> float | None:
        return self.restored_bytes / self.rto_seconds if self.rto_seconds else None
