"""What is chosen for a target, and what is said when nothing can be."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bilten_orchestration.backups.postgres.targets import Target, choose
from bilten_orchestration.backups.repository.catalogue import Backup
from bilten_orchestration.backups.repository.manifest import Manifest, Mark, WalRange
from bilten_orchestration.backups.wal import positions
from bilten_orchestration.backups.wal.archive import Piece, best
from bilten_orchestration.backups.wal.past import Past
from bilten_orchestration.backups.wal.positions import Switch
from bilten_orchestration.errors import Mismatch, Refused

SIZE = 1 << 20
BEGAN = datetime(2026, 11, 21, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return BEGAN + timedelta(minutes=minutes)


def backup(number: int, *, timeline: int = 1, parent: str | None = None, expired: bool = False) -> Backup:
    """Taken in the minute `number`, within the segment `number`."""
    name = f"backup-{number}"
    begin = number * SIZE
    manifest = Manifest(
        id=name,
        store="postgres",
        kind="incremental" if parent else "full",
        source="7",
        started_at=at(number),
        finished_at=at(number + 0.5),
        raw_bytes=1,
        codec="zstd",
        objects=(),
        key_id="key",
        versions={"postgres": "18.1"},
        parent=parent,
        wal=WalRange(timeline, positions.text(begin + 40), positions.text(begin + 80)),
        consistent_at=at(number + 0.5),
    )
    return Backup(manifest, (Mark(name, "expired", at(99), "test"),) if expired else ())


def piece(timeline: int, number: int, part: float = 1.0) -> Piece:
    """The segment of the minute `number`: its newest heartbeat is of that minute's end."""
    file = positions.segment(timeline, number * SIZE, SIZE)
    return Piece(f"wal/{file}", file, int(SIZE * part), "key", "0" * 32, at(number + 0.9), 1, SIZE)


def past(
    backups: list[Backup], pieces: list[Piece], histories: dict[int, tuple[Switch, ...]] | None = None
) -> Past:
    return Past("bucket", "7", SIZE, tuple(backups), best(pieces), histories or {}, (), (), ())


WHOLE = past([backup(1), backup(5), backup(6, parent="backup-5")], [piece(1, n) for n in range(10)])


def _moment(minutes: float, **how: object) -> Target:
    return Target("moment", at(minutes).isoformat(), **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("minutes", "start"), [(1.5, "backup-1"), (5.4, "backup-1"), (5.5, "backup-5"), (9.9, "backup-6")]
)
def test_the_newest_backup_that_was_over(minutes: float, start: str) -> None:
    chosen = choose(WHOLE, _moment(minutes))
    assert chosen.start.backup.manifest.id == start
    # WAL up to the first heartbeat behind the moment, and no more
    assert chosen.pieces[-1].beat_at is not None
    assert chosen.pieces[-1].beat_at >= at(minutes)


@pytest.mark.parametrize(
    ("minutes", "said"),
    [
        (1.49, "nearest after it 2026-11-21T00:01:30.001Z"),
        (9.91, "nearest before it 2026-11-21T00:09:54.000Z"),
    ],
)
def test_outside_of_what_there_is(minutes: float, said: str) -> None:
    with pytest.raises(Refused, match="cannot be restored") as told:
        choose(WHOLE, _moment(minutes))
    assert told.value.problems[0].found == said


def test_within_a_gap_both_sides_are_named() -> None:
    holed = past([backup(1), backup(7)], [piece(1, n) for n in range(10) if n != 4])
    with pytest.raises(Refused, match="cannot be restored") as told:
        choose(holed, _moment(5))
    assert told.value.problems[0].found == (
        "nearest before it 2026-11-21T00:03:54.000Z; nearest after it 2026-11-21T00:07:30.001Z"
    )
    assert choose(holed, _moment(8)).start.backup.manifest.id == "backup-7"


def test_latest_stops_before_no_gap_in_silence() -> None:
    assert choose(WHOLE, Target("latest")).start.backup.manifest.id == "backup-6"
    holed = past([backup(1)], [piece(1, n) for n in range(10) if n != 4])
    with pytest.raises(Refused, match="end of WAL cannot be restored"):
        choose(holed, Target("latest"))


def test_an_expired_or_orphaned_backup_is_no_start() -> None:
    gone = past([backup(1), backup(5, expired=True), backup(6, parent="backup-5")], [*WHOLE.best.values()])
    assert choose(gone, _moment(8)).start.backup.manifest.id == "backup-1"


def test_what_only_replay_finds_starts_at_the_oldest_of_the_run() -> None:
    assert choose(WHOLE, Target("name", "before the sale")).start.backup.manifest.id == "backup-1"
    named = choose(WHOLE, Target("name", "before the sale", backup="backup-5"))
    assert named.start.backup.manifest.id == "backup-5"


def test_timelines() -> None:
    """Left in minute 6: production is on 2, and what 1 wrote later can be had by name alone."""
    switch = Switch(1, 6 * SIZE + 500)
    two = past(
        [backup(1), backup(5), backup(7, timeline=1), backup(8, timeline=2)],
        [*(piece(1, n) for n in range(9)), *(piece(2, n) for n in range(6, 12))],
        {2: (switch,)},
    )
    assert two.timeline == 2
    assert [start.backup.manifest.id for start in two.starts(2)] == ["backup-1", "backup-5", "backup-8"]
    before = choose(two, _moment(7.95))
    assert before.start.backup.manifest.id == "backup-5"
    assert [each.timeline for each in before.pieces] == [1, 2, 2, 2]
    old = choose(two, _moment(8, timeline=1))
    assert (old.start.backup.manifest.id, old.timeline) == ("backup-7", 1)
    with pytest.raises(Mismatch, match="history of timeline 3"):
        choose(two, _moment(8, timeline=3))


def test_a_position() -> None:
    chosen = choose(WHOLE, Target("lsn", positions.text(4 * SIZE + 7)))
    assert chosen.start.backup.manifest.id == "backup-1"
    with pytest.raises(Refused, match="within"):
        choose(WHOLE, Target("lsn", positions.text(11 * SIZE)))


def test_a_backup_needs_no_wal_and_no_history() -> None:
    alone = past([backup(1, timeline=4)], [])
    chosen = choose(alone, Target("backup", "backup-1"))
    assert (chosen.pieces, chosen.timeline) == ((), 4)
    with pytest.raises(Refused, match="no base backup that can be restored"):
        choose(past([backup(1, expired=True)], []), Target("backup", "backup-1"))


def test_a_jump_of_the_clock_moves_neither_the_timeline_nor_the_map() -> None:
    """Timeline 1 has heartbeats of next year, and a backup that ended then; production is on 2."""
    year = timedelta(days=365)
    wrong = backup(3)
    wrong = replace(wrong, manifest=replace(wrong.manifest, consistent_at=at(3.5) + year))
    pieces = [
        replace(piece(1, number), written_at=at(number + 1), beat_at=at(number + 0.9) + ahead)
        for number, ahead in ((1, 0 * year), (2, year), (3, year))
    ]
    pieces += [replace(piece(2, number), written_at=at(number + 1)) for number in (4, 5)]
    switch = Switch(1, 4 * SIZE)
    found = past([backup(1), wrong, backup(5, timeline=2)], pieces, {2: (switch,)})
    assert found.timeline == 2
    assert [(span.begin, span.to) for span in found.spans(2)] == [(at(1.5), at(1.9)), (at(5.5), at(5.9))]
    with pytest.raises(Refused):
        choose(found, Target("moment", str(at(4.5))))
    assert choose(found, Target("moment", str(at(5.6)))).start.backup.manifest.id == "backup-5"
    assert choose(found, Target("latest")).start.run.end == 6 * SIZE
