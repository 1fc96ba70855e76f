"""Where a restore is to stop, and what it starts from. No I/O.

moment      the newest backup that was over before it, in a run of WAL that reaches it
lsn         the same, by position
backup      that backup, at the moment at which it was over
latest      the newest backup whose WAL reaches furthest, to the end of it
xid, name   only replay can find them: from the oldest backup that the newest run of WAL begins with, or
            from the one that is named, which makes it shorter
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from bilten_orchestration.backups.wal import positions
from bilten_orchestration.backups.wal.archive import Piece
from bilten_orchestration.backups.wal.coverage import Run
from bilten_orchestration.backups.wal.past import Past, Start
from bilten_orchestration.errors import Problem, Refused, UsageError

TargetKind = Literal["moment", "lsn", "xid", "name", "backup", "latest"]


@dataclass(frozen=True, slots=True)
class Target:
    """`value` is what that kind wants: a time with its zone, an LSN, a transaction id, a restore point's
    name, a backup's id; nothing for latest. `backup` is what to start from, where that is given. Without
    `inclusive` a restore to a moment, an LSN or a transaction stops just before it."""

    kind: TargetKind
    value: str = ""
    backup: str | None = None
    timeline: int | None = None
    inclusive: bool = True

    @property
    def moment(self) -> datetime:
        """Raises UsageError for what is no time, or has no zone: three in the morning is no time to guess."""
        try:
            found = datetime.fromisoformat(self.value)
        except ValueError:
            found = None
        if found is None or found.tzinfo is None:
            raise UsageError(
                f"{self.value!r} is no moment",
                expected="a date and time with its zone: 2026-11-21T03:15:00Z, or ...+02:00",
                found="no zone" if found is not None else self.value,
            )
        return found.astimezone(UTC)

    @property
    def position(self) -> int:
        """Raises UsageError for what is no LSN."""
        try:
            return positions.lsn(self.value)
        except ValueError as error:
            raise UsageError(str(error), expected="as PostgreSQL writes it: 0/3000148") from None

    def settings(self) -> dict[str, str]:
        """What PostgreSQL is told (manual, "Recovery Target"); the timeline is told apart."""
        told = self._stop()
        if told and not self.inclusive:
            told["recovery_target_inclusive"] = "off"
        return told

    def _stop(self) -> dict[str, str]:
        match self.kind:
            case "moment":
                return {"recovery_target_time": self.moment.isoformat(sep=" ")}
            case "lsn":
                return {"recovery_target_lsn": positions.text(self.position)}
            case "xid":
                return {"recovery_target_xid": self.value}
            case "name":
                return {"recovery_target_name": self.value}
            case "backup":
                return {"recovery_target": "immediate"}
            case "latest":
                return {}


@dataclass(frozen=True, slots=True)
class Chosen:
    """A backup to start from, the pieces of WAL to replay, and the timeline to follow."""

    start: Start
    pieces: tuple[Piece, ...]
    timeline: int


def check(target: Target) -> None:
    """Raises UsageError for a value that its kind does not take: before anything is read."""
    match target.kind:
        case "moment":
            _ = target.moment
        case "lsn":
            _ = target.position
        case "xid" if not target.value.isdecimal():
            raise UsageError(f"{target.value!r} is no transaction id", expected="a number")
        case _:
            pass


def choose(past: Past, target: Target) -> Chosen:
    """Raises Refused for what cannot be reached, with what can; Mismatch for an unknown timeline."""
    if target.kind == "backup":
        return _itself(past, target.value)
    timeline = target.timeline or past.timeline
    starts = [
        start
        for start in past.starts(timeline)
        if target.backup is None or start.backup.manifest.id == target.backup
    ]
    usable = [start for start in starts if _reaches(start, target)]
    if not usable:
        raise Refused(_unreachable(past, timeline, starts, target))
    if target.kind == "latest":
        _refuse_gap(past, timeline, max(each.run.end for each in usable))
    match target.kind:
        case "latest":
            start = max(usable, key=lambda each: (each.run.end, each.consistent_at))
        case "xid" | "name":
            furthest = max(each.run.end for each in usable)
            start = next(each for each in usable if each.run.end == furthest)
        case _:
            start = usable[-1]
    return Chosen(start, _until(start, target), timeline)


def _refuse_gap(past: Past, timeline: int, end: int) -> None:
    """`latest` promises all that is stored: it stops before no gap in silence."""
    stored = past.end(timeline)
    if end < stored or past.damaged:
        raise Refused(
            [
                Problem(
                    f"the end of WAL cannot be restored from {past.bucket}, timeline {timeline}",
                    expected="WAL without a gap or damage up to its end",
                    found=f"a gap behind {positions.text(end)}, and more behind it up to "
                    f"{positions.text(stored)}"
                    if end < stored
                    else "damaged objects",
                    next="bilten wal audit; bilten reach shows the last moment before it, for --target-time",
                ),
                *past.damaged,
            ]
        )


def _itself(past: Past, backup_id: str) -> Chosen:
    """A backup as of its end: the WAL for that is in it, and no history is needed."""
    for backup in past.backups:
        wal = backup.manifest.wal
        if backup.manifest.id == backup_id and wal is not None and backup.state != "expired":
            begin, end = positions.lsn(wal.begin_lsn), positions.lsn(wal.end_lsn)
            at = backup.manifest.consistent_at or backup.manifest.finished_at
            return Chosen(Start(backup, begin, end, at, Run(begin, begin, ())), (), wal.timeline)
    raise Refused(
        f"{backup_id} is no base backup that can be restored",
        expected="a full or an incremental one that is not expired",
        found=backup_id,
        next="bilten backup list; a logical one: bilten restore logical",
    )


def _reaches(start: Start, target: Target) -> bool:
    match target.kind:
        case "moment":
            return start.consistent_at <= target.moment <= start.until
        case "lsn":
            return start.end <= target.position <= start.run.end
        case _:
            return start.run.end >= start.end


def _until(start: Start, target: Target) -> tuple[Piece, ...]:
    """As much WAL as the target needs: what comes later only costs time."""
    taken: list[Piece] = []
    for piece in start.run.pieces:
        taken.append(piece)
        # recovery stops at the first commit behind the moment: the heartbeat behind it must be there
        if target.kind == "moment" and piece.beat_at is not None and piece.beat_at > target.moment:
            break
        # and at the first record that begins at or behind the position
        if target.kind == "lsn" and piece.begin > target.position:
            break
    return tuple(taken)


def _unreachable(past: Past, timeline: int, starts: Sequence[Start], target: Target) -> list[Problem]:
    wanted = {
        "moment": "the moment",
        "lsn": "the position",
        "latest": "the end of WAL",
        "xid": "the transaction",
        "name": "the restore point",
    }[target.kind]
    what = f"{wanted} {target.value} cannot be restored from {past.bucket}, timeline {timeline}".replace(
        "  ", " "
    )
    if not starts:
        among = "" if target.backup is None else f"not {target.backup}, "
        return [
            Problem(
                what,
                expected="a base backup on the way to it, whose parent is there too",
                found=f"none: {among}{len(past.backups)} base backups in all",
                next="bilten reach; bilten backup list; the other bucket by --bucket copy",
            )
        ]
    if target.kind == "lsn":
        ranges = ", ".join(f"{positions.text(each.end)} to {positions.text(each.run.end)}" for each in starts)
        return [Problem(what, expected=f"within {ranges}", found=target.value, next="bilten reach")]
    return [
        Problem(
            what,
            expected="a moment that a backup and WAL without a gap reach",
            found=_nearest(past, timeline, target),
            next="bilten reach shows all that can be restored",
        )
    ]


def _nearest(past: Past, timeline: int, target: Target) -> str:
    spans = past.spans(timeline)
    if target.kind != "moment" or not spans:
        return f"{len(spans)} spans"
    moment = target.moment
    # rounded inwards: a user who types what is shown here must not be refused again
    before = max((span.to for span in spans if span.to < moment), default=None)
    after = min((span.begin for span in spans if span.begin > moment), default=None)
    said = []
    if before is not None:
        said.append(f"nearest before it {_shown(before)}")
    if after is not None:
        said.append(f"nearest after it {_shown(after + timedelta(milliseconds=1))}")
    return "; ".join(said)


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
