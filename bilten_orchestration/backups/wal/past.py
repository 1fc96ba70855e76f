"""What one bucket holds of one server's past: its base backups, its WAL, its timelines.

Read from the bucket and the key file alone. Everything that is said of it, which moments can be restored and
from what, is worked out here without I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.catalogue import Backup
from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.backups.wal import archive, coverage, positions
from bilten_orchestration.backups.wal.archive import AHEAD, Archive, Piece
from bilten_orchestration.backups.wal.coverage import Run
from bilten_orchestration.backups.wal.positions import Span, Switch
from bilten_orchestration.errors import Mismatch, Problem

_BASES = ("full", "incremental")


@dataclass(frozen=True, slots=True)
class Start:
    """A base backup, and the WAL that follows it without a gap."""

    backup: Backup
    begin: int
    end: int
    consistent_at: datetime
    run: Run

    @property
    def ahead(self) -> bool:
        """Whether it ended at a moment that had not come yet: the server's clock was wrong."""
        return self.consistent_at > self.backup.manifest.finished_at + AHEAD

    @property
    def until(self) -> datetime:
        """The last moment that can be restored from here: that of the backup itself when no WAL follows."""
        beat_at = self.run.beat_at
        return (
            self.consistent_at
            if beat_at is None or self.run.end < self.end
            else max(beat_at, self.consistent_at)
        )


@dataclass(frozen=True, slots=True)
class ReachSpan:
    """Every moment from `begin` to `to` can be restored. `backups` are what it may start from, `key_ids` what
    it needs, `proven` whether a restore of one of them passed."""

    begin: datetime
    to: datetime
    timeline: int
    key_ids: tuple[str, ...]
    proven: bool
    backups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Past:
    """`best` is, by file, the piece that holds most of it; `histories` the ancestors of each timeline;
    `damaged` what is there of WAL and cannot be believed, `problems` that and the same of backups."""

    bucket: str
    system_identifier: str
    segment_bytes: int
    backups: tuple[Backup, ...]
    best: Mapping[str, Piece]
    histories: Mapping[int, tuple[Switch, ...]]
    history_pieces: tuple[Piece, ...]
    damaged: tuple[Problem, ...]
    problems: tuple[Problem, ...]

    @classmethod
    def read(cls, opened: Opened, backup_id: str | None = None) -> Past:
        """Of the server whose backup that is, or is the newest. Raises Mismatch when there is none."""
        found = catalogue.read(opened.repository, opened.ring, "postgres")
        problems = list(found.problems)
        bases = [backup for backup in found.backups if backup.manifest.kind in _BASES]
        named = None if backup_id is None else found.find(backup_id)
        newest = named or (bases[-1] if bases else None)
        identifier = None if newest is None else newest.manifest.source
        if identifier is None:
            raise Mismatch(
                [
                    *problems,
                    Problem(
                        f"{opened.repository.bucket} holds no base backup of PostgreSQL",
                        expected="one or more",
                        found="none",
                        next="bilten backup create postgres; into the second bucket: bilten backup copy",
                    ),
                ]
            )
        sizes = dict(archive.servers(opened.repository))
        size = sizes.get(identifier, positions.SEGMENT_BYTES)
        wal = Archive(opened.repository, opened.cipher, identifier, size)
        damaged: list[Problem] = []
        pieces = list(wal.pieces(problems=damaged))
        history_pieces = tuple(piece for piece in pieces if not piece.is_segment)
        histories = _histories(wal, history_pieces, damaged)
        return cls(
            opened.repository.bucket,
            identifier,
            size,
            tuple(backup for backup in bases if backup.manifest.source == identifier),
            archive.best(piece for piece in pieces if piece.is_segment),
            histories,
            history_pieces,
            tuple(damaged),
            (*problems, *damaged, *_wrong_clock(pieces)),
        )

    @property
    def timelines(self) -> tuple[int, ...]:
        """Those that there is WAL or a backup of."""
        found = {piece.timeline for piece in self.best.values()}
        return tuple(sorted(found | {wal.timeline for each in self.backups if (wal := each.manifest.wal)}))

    @property
    def timeline(self) -> int:
        """The one that production is on: of the newest heartbeat, or of the newest backup without one."""
        newest = max(
            (piece for piece in self.best.values() if piece.beat_at is not None and not piece.ahead),
            key=lambda piece: (piece.beat_at, piece.end),
            default=None,
        )
        if newest is not None:
            return newest.timeline
        wal = self.backups[-1].manifest.wal if self.backups else None
        return 1 if wal is None else wal.timeline

    def end(self, timeline: int) -> int:
        """Behind the last byte that there is of a timeline; 0 when there is none."""
        return max((piece.end for piece in self.best.values() if piece.timeline == timeline), default=0)

    def path(self, timeline: int) -> tuple[Span, ...]:
        """Raises Mismatch when that timeline's history is not there."""
        if timeline != 1 and timeline not in self.histories:
            raise Mismatch(
                f"the history of timeline {timeline} is not in {self.bucket}",
                expected=f"one of {', '.join(map(str, (1, *sorted(self.histories))))}",
                found=str(timeline),
                next="bilten reach shows the timelines that there are; the second bucket may have it",
            )
        return positions.path_to(timeline, self.histories.get(timeline, ()))

    def starts(self, timeline: int) -> tuple[Start, ...]:
        """The backups that a restore to a moment of that timeline can start from, oldest first."""
        path = self.path(timeline)
        counts = {span.timeline: span for span in path}
        found: list[Start] = []
        for backup in self.backups:
            wal = backup.manifest.wal
            if backup.state == "expired" or wal is None or backup.manifest.consistent_at is None:
                continue
            begin, end = positions.lsn(wal.begin_lsn), positions.lsn(wal.end_lsn)
            span = counts.get(wal.timeline)
            # one that ended after its timeline was left is of another past
            if span is None or (span.end is not None and end > span.end) or not self._chain_is_there(backup):
                continue
            run = coverage.run_from(self.best, path, begin, self.segment_bytes)
            found.append(Start(backup, begin, end, backup.manifest.consistent_at, run))
        return tuple(found)

    def spans(self, timeline: int) -> tuple[ReachSpan, ...]:
        """The moments that can be restored of a timeline, oldest first; those that meet are one."""
        found: list[ReachSpan] = []
        for start in self.starts(timeline):
            if start.ahead:
                continue
            span = ReachSpan(
                start.consistent_at,
                start.until,
                timeline,
                self._keys(start),
                start.backup.state == "drilled",
                (start.backup.manifest.id,),
            )
            if found and span.begin <= found[-1].to:
                before = found.pop()
                span = ReachSpan(
                    before.begin,
                    max(before.to, span.to),
                    timeline,
                    tuple(dict.fromkeys((*before.key_ids, *span.key_ids))),
                    before.proven or span.proven,
                    (*before.backups, *span.backups),
                )
            found.append(span)
        return tuple(found)

    def chain(self, backup: Manifest) -> tuple[Manifest, ...]:
        """The backup with what it is built on, which comes first. Raises Mismatch when that is gone."""
        chain = [backup]
        by_id = {each.manifest.id: each.manifest for each in self.backups}
        while (parent := chain[0].parent) is not None:
            if parent not in by_id:
                raise Mismatch(
                    f"{backup.id} is built on {parent}, which is gone",
                    expected=f"the manifest of {parent} in {self.bucket}",
                    found="nothing that can be read",
                    next="restore another one: bilten backup list",
                )
            chain.insert(0, by_id[parent])
        return tuple(chain)

    def _chain_is_there(self, backup: Backup) -> bool:
        parent = backup.manifest.parent
        return parent is None or any(
            each.manifest.id == parent and each.state != "expired" for each in self.backups
        )

    def _keys(self, start: Start) -> tuple[str, ...]:
        of_chain = (manifest.key_id for manifest in self.chain(start.backup.manifest))
        return tuple(dict.fromkeys((*of_chain, *(piece.key_id for piece in start.run.pieces))))


def _wrong_clock(pieces: Sequence[Piece]) -> tuple[Problem, ...]:
    ahead = [piece for piece in pieces if piece.ahead]
    if not ahead:
        return ()
    worst = max(ahead, key=lambda piece: piece.beat_at or datetime.min)
    return (
        Problem(
            f"{len(ahead)} pieces of WAL are of a server whose clock was ahead: no moment behind the first of"
            " them can be restored from a backup before it",
            expected=f"heartbeats at most {AHEAD.total_seconds() / 60:.0f} minutes ahead of the object store",
            found=f"{worst.beat_at:%F %T} UTC in {worst.file}, stored at {worst.written_at:%F %T} UTC",
            next="set the server's clock right (NTP), then bilten backup create postgres --kind full: moments"
            " count from its end on; before, --target-lsn and latest still work",
        ),
    )


def _histories(
    wal: Archive, pieces: Sequence[Piece], problems: list[Problem]
) -> Mapping[int, tuple[Switch, ...]]:
    found: dict[int, tuple[Switch, ...]] = {}
    for piece in pieces:
        try:
            found[piece.timeline] = wal.history_of(piece)
        except Mismatch as error:
            problems.extend(error.problems)
    return found
