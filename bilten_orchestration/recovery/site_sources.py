"""What each lost store is brought back from: the newest backup of a bucket, or one that is named. Reads only.

Of it until when it reaches, how much is lost by that, the room it needs, and the keys. What PostgreSQL comes
back from is chosen by what will restore it (backups/postgres/targets.py), so that nothing is promised that is
refused then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from bilten_orchestration.backups.copies.files import ROOT as FILES
from bilten_orchestration.backups.postgres import targets
from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.backups.wal.past import Past
from bilten_orchestration.errors import BiltenError, Problem, Refused
from bilten_orchestration.recovery import site_spool
from bilten_orchestration.recovery.site_spool import Beyond
from bilten_orchestration.settings import Settings

Lost = Literal["postgres", "clickhouse", "redis", "files"]
LOST: tuple[Lost, ...] = ("postgres", "redis", "clickhouse", "files")
_ROOM = 1.05


@dataclass(frozen=True, slots=True)
class StorePlan:
    """`backup_id` is what it starts from, `reaches` until when it comes back (UTC), `rpo_seconds` what is
    lost by that, counted from now. `needed_bytes` of room in `directory`; files of the application go to
    their bucket. `keys` are what it is encrypted under; `spool` is WAL that only this machine has, behind
    what `reaches` tells."""

    store: Lost
    backup_id: str | None
    reaches: datetime | None
    rpo_seconds: float | None
    stored_bytes: int
    needed_bytes: int
    directory: Path | None
    keys: tuple[str, ...]
    spool: Beyond | None = None


def postgres(
    settings: Settings,
    opened: Opened,
    data: Path,
    now: datetime,
    named: str | None,
    until: str | None,
    warnings: list[Problem],
) -> StorePlan:
    past = Past.read(opened, named)
    warnings += past.problems
    spool = site_spool.look(settings, past)
    target = Target("latest", backup=named) if until is None else Target("moment", until, named)
    try:
        chosen = targets.choose(past, target)
    except Refused as error:
        raise Refused([_or_earlier(past, error.problems[0]), *error.problems[1:]]) from None
    start, pieces = chosen.start, chosen.pieces
    chain = past.chain(start.backup.manifest)
    at = start.until if until is None else target.moment
    return StorePlan(
        "postgres",
        start.backup.manifest.id,
        at,
        max(0.0, (now - at).total_seconds()),
        sum(each.stored_bytes for each in chain) + sum(piece.bytes for piece in pieces),
        int(sum(each.raw_bytes for each in chain) * _ROOM) + len(pieces) * past.segment_bytes,
        data / "postgres",
        tuple(dict.fromkeys((*(each.key_id for each in chain), *(piece.key_id for piece in pieces)))),
        spool,
    )


def _or_earlier(past: Past, problem: Problem) -> Problem:
    """What can be asked for instead."""
    # behind the end of a backup a heartbeat must lie, or replay would not know that it has come to a moment
    moments = [span.to for span in past.spans(past.timeline) if span.to > span.begin]
    if not moments:
        return problem
    # exact: what is typed as it is shown here must not be refused again
    shown = max(moments).astimezone(UTC).isoformat().replace("+00:00", "Z")
    return replace(problem, next=f"{problem.next}; the newest that can be reached: --target-time {shown}")


def newest(
    opened: Opened,
    store: Literal["redis", "clickhouse"],
    data: Path,
    now: datetime,
    named: str | None,
    warnings: list[Problem],
) -> StorePlan:
    found = catalogue.read(opened.repository, opened.ring, store)
    warnings += found.problems
    living = [each.manifest for each in found.backups if each.state != "expired"]
    fitting = [each for each in living if named in (None, each.id)]
    if not fitting:
        raise _none(opened, store, named, [each.id for each in living[-3:]])
    backup = fitting[-1]
    by_id = {each.manifest.id: each.manifest for each in found.backups}
    chain = [backup, *([by_id[backup.parent]] if backup.parent in by_id else [])]
    at = backup.consistent_at or backup.started_at
    return StorePlan(
        store,
        backup.id,
        at,
        max(0.0, (now - at).total_seconds()),
        sum(each.stored_bytes for each in chain),
        # Redis writes the snapshot and the append-only file beside it
        int(sum(each.raw_bytes for each in chain) * (2 if store == "redis" else 1) * _ROOM),
        data / store,
        tuple(dict.fromkeys(each.key_id for each in chain)),
    )


def files(opened: Opened) -> StorePlan:
    size = sum(each.bytes for each in opened.repository.list(f"{FILES}/"))
    return StorePlan("files", None, None, None, size, 0, None, ())


def _none(opened: Opened, store: str, named: str | None, newest: Sequence[str]) -> BiltenError:
    if named is not None:
        return BiltenError(
            f"{opened.repository.bucket} holds no {named} that {store} can be brought back from",
            expected=f"one of its backups, the newest: {', '.join(newest) or 'none'}",
            found=named,
            next="bilten backup list; or the other bucket: --bucket",
        )
    return BiltenError(
        f"{opened.repository.bucket} holds no backup of {store} that can be restored",
        expected="one or more",
        found="none",
        next="name the stores that can be: --store; or the other bucket: --bucket",
    )
