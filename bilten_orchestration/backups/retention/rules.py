"""What may go, and why what stays stays: decided from listings alone, nothing is read or removed here.

Each bucket is judged by itself, by what it holds. Ages are counted in lived time: a time longer than
`silence` between two signs of life of a store (a backup began or ended, WAL was written) does not count. So
neither a clock that is a year ahead, for a night or for good, nor weeks without backups make anything old.

A backup,

    1. while this machine's clock and the object store's differ, or the last sign of life is longer ago than
       `silence`: stays, and so does everything else of its store
    2. of a kind that has no time in plan.py: stays
    3. younger than the time of its kind: stays
    4. the newest of its store and family (full with incremental; logical), the newest of them that was
       verified, the newest that was drilled: stays
    5. needed by the promised window: stays. That is one that ended inside it, and, for each timeline that
       has WAL written inside it, the newest base backup of it that ended before the window begins; where it
       has none of its own, the newest ones of earlier timelines that it may descend from
    6. that a backup which stays builds on: stays
    7. any other: goes

An object of WAL,

    8. a part of a segment, of which a longer part or the whole was stored a while ago: goes
    9. of a server of which no base backup is listed: stays, until that server was silent for as long as a
       full backup is kept
    10. at or after the begin of a base backup that the window needs (5, or ended inside it), on its timeline
        or a later one: stays
    11. any other: goes. Older full backups that are kept have their own WAL inside (-X fetch)

Objects and documents of no listed backup,

    12. while the newest of them is younger than the grace time: stay; a backup may be under way
    13. older: go
    14. of a backup that has the mark `expired` and no manifest: go at once; a prune was killed there

A journal of a prune,

    15. younger than 400 days, or than the longest time that a backup of its store is kept for: stays
    16. older: goes. While nothing else may go (1), it stays too

What cannot be believed (a store whose catalogue has problems) is kept with everything else of that store:
prune.py asks nothing of it. Archives of partitions lie outside all of this.

Case 5 keeps more than the one base backup on purpose: from which timeline a later one branched is told by the
place of its first segment alone, so every base backup that may be the needed one counts as needed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from bilten_orchestration.backups.repository.bucket import Listed
from bilten_orchestration.backups.repository.catalogue import Backup
from bilten_orchestration.backups.repository.manifest import Manifest, Store
from bilten_orchestration.backups.wal.positions import lsn, start_of

Subject = Literal["backup", "wal", "journal"]
WINDOW = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class WalObject:
    """One stored (part of a) segment: `segment` is its name of 24 hex digits, the object holds its first
    `end_offset` bytes. `name` begins with wal/<system identifier>/; `written_at` is the store's."""

    timeline: int
    segment: str
    end_offset: int
    name: str
    bytes: int
    written_at: datetime

    @property
    def source(self) -> str:
        return self.name.split("/")[1]


@dataclass(frozen=True, slots=True)
class Rules:
    """`kept` by store and kind; `window` is the promise of PITR. `silence` is the longest time between two
    signs of life that counts, `apart` how far two clocks may differ, `superseded` how long a part of a
    segment stays beside a longer one (somebody may be restoring from it), `journal` how long at least is
    known what a prune removed."""

    kept: Mapping[tuple[str, str], timedelta]
    window: timedelta = WINDOW
    silence: timedelta = timedelta(days=2)
    apart: timedelta = timedelta(minutes=15)
    superseded: timedelta = timedelta(hours=1)
    journal: timedelta = timedelta(days=400)
    segment_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True)
class Decision:
    """One line: `name` of a backup (its id) or of an object, `case` of the list above."""

    subject: Subject
    store: Store
    name: str
    bytes: int
    goes: bool
    case: int
    reason: str


def decide(
    backups: Sequence[Backup],
    wal: Sequence[WalObject],
    rules: Rules,
    now: datetime,
    store_clock: datetime,
) -> tuple[Decision, ...]:
    """A line for every backup, by start, then for every object of WAL, by name.

    `now` is this machine's clock, `store_clock` the object store's. Backups that build on others come before
    them among those that go, when read from the end.
    """
    wal = sorted(wal, key=lambda each: each.name)
    if abs(now - store_clock) > rules.apart:
        return _nothing_goes(
            backups, wal, f"this machine's clock says {now:%F %T}, the store's {store_clock:%F %T}"
        )
    judged = [_Judged(backup, rules.segment_bytes) for backup in backups]
    by_store: dict[str, list[_Judged]] = defaultdict(list)
    for each in judged:
        by_store[each.manifest.store].append(each)
    said: list[Decision] = []
    for store, of_store in by_store.items():
        signs = [at for each in of_store for at in (each.manifest.started_at, each.manifest.finished_at)]
        if store == "postgres":
            signs += [each.written_at for each in wal]
        life = _Life(signs, now, rules.silence)
        _judge(of_store, wal, rules, life)
        if life.silent:
            for each in of_store:
                each.stays, each.case, each.why = True, 1, f"no sign of life for {_days(rules.silence)}"
    said += [each.decision for each in judged]
    said += _judge_wal(by_store["postgres"], wal, rules, now)
    return tuple(said)


def decide_journals(
    store: Store,
    journals: Sequence[Listed],
    backups: Sequence[Backup],
    rules: Rules,
    now: datetime,
    store_clock: datetime,
) -> tuple[Decision, ...]:
    """Cases 15 and 16 for the journals of one store, by name; `journals` are those of all: in ages counts the
    time in which there were any, or backups of the store."""
    kept = max([rules.journal, *(time for (of, _), time in rules.kept.items() if of == store)])
    manifests = [backup.manifest for backup in backups]
    signs = [at for each in manifests for at in (each.started_at, each.finished_at)]
    life = _Life([*signs, *(each.written_at for each in journals)], now, rules.silence)
    apart = abs(now - store_clock) > rules.apart

    def one(each: Listed) -> Decision:
        if apart or life.silent:
            why = "clocks differ" if apart else f"no sign of life for {_days(rules.silence)}"
            return Decision("journal", store, each.name, each.bytes, False, 1, why)
        if each.written_at > life.ago(kept):
            return Decision("journal", store, each.name, each.bytes, False, 15, f"kept for {_days(kept)}")
        return Decision("journal", store, each.name, each.bytes, True, 16, f"older than {_days(kept)}")

    return tuple(
        one(each) for each in sorted(journals, key=lambda each: each.name) if f"-{store}-" in each.name
    )


def segment_number(segment: str, segment_bytes: int) -> int:
    """Which one it is of its timeline's, from its 24 hex digits."""
    return start_of(segment, segment_bytes) // segment_bytes


class _Life:
    """Time, counted where there are signs of life."""

    def __init__(self, signs: Iterable[datetime], now: datetime, silence: timedelta) -> None:
        # what is dated after now is no sign of anything
        self._at = sorted({now, *(at for at in signs if at <= now)}, reverse=True)
        self._silence = silence

    def ago(self, span: timedelta) -> datetime:
        """The moment that is so long ago; before all signs where they do not reach so far."""
        left = span
        for later, earlier in zip(self._at, self._at[1:], strict=False):
            step = later - earlier
            if step > self._silence:
                continue
            if step >= left:
                return later - left
            left -= step
        return self._at[-1] - left

    @property
    def silent(self) -> bool:
        """Whether the last sign is too long ago, or there is none."""
        return len(self._at) < 2 or self._at[0] - self._at[1] > self._silence


class _Judged:
    """A backup with what is decided of it: stays by the first reason that is found."""

    def __init__(self, backup: Backup, segment_bytes: int) -> None:
        self.backup, self.manifest = backup, backup.manifest
        self.case, self.why = 7, ""
        self.stays = False
        self.window = False
        wal = self.manifest.wal
        self.timeline = wal.timeline if wal else 0
        self.begin = lsn(wal.begin_lsn) // segment_bytes if wal else 0
        self.end = -(-lsn(wal.end_lsn) // segment_bytes) if wal else 0

    @property
    def family(self) -> str:
        return "logical" if self.manifest.kind == "logical" else "base"

    def stay(self, case: int, why: str) -> None:
        if not self.stays:
            self.stays, self.case, self.why = True, case, why

    @property
    def decision(self) -> Decision:
        found = self.manifest
        return Decision(
            "backup", found.store, found.id, found.stored_bytes, not self.stays, self.case, self.why
        )


def _judge(of_store: list[_Judged], wal: Sequence[WalObject], rules: Rules, life: _Life) -> None:
    by_id = {each.manifest.id: each for each in of_store}
    for each in of_store:
        kept = rules.kept.get((each.manifest.store, each.manifest.kind))
        if kept is None:
            each.stay(2, f"nothing says how long {each.manifest.kind} backups are kept")
        elif each.manifest.started_at > life.ago(kept):
            each.stay(3, f"kept for {_days(kept)}")
        else:
            each.why = f"older than {_days(kept)}"
    whole = [each for each in of_store if _chain(each, by_id) is not None]
    for family in ("base", "logical"):
        of_family = [each for each in whole if each.family == family]
        for mark, words in (
            (None, "the newest"),
            ("verified", "the newest that was verified"),
            ("drilled", "the newest that passed a drill"),
        ):
            good = [each for each in of_family if mark is None or _has(each, mark)]
            if good:
                newest = max(good, key=lambda each: (each.manifest.started_at, each.manifest.id))
                newest.stay(4, f"{words} of {newest.manifest.store}")
    _window(whole, wal, rules, life)
    for each in of_store:
        if each.stays:
            for parent in _chain(each, by_id) or ():
                parent.stay(6, f"{each.manifest.id} builds on it")


def _has(each: _Judged, mark: str) -> bool:
    return any(found.name == mark for found in each.backup.marks)


def _chain(each: _Judged, by_id: Mapping[str, _Judged]) -> list[_Judged] | None:
    """What it builds on, nearest first; None when something of that is not listed."""
    chain: list[_Judged] = []
    while (parent := (chain[-1] if chain else each).manifest.parent) is not None:
        if parent not in by_id or by_id[parent] in chain:
            return None
        chain.append(by_id[parent])
    return chain


def _window(whole: list[_Judged], wal: Sequence[WalObject], rules: Rules, life: _Life) -> None:
    """Case 5, for each server by itself."""
    begins = life.ago(rules.window)
    bases: dict[str, list[_Judged]] = defaultdict(list)
    for each in whole:
        if each.manifest.store == "postgres" and each.family == "base" and each.timeline:
            bases[each.manifest.source].append(each)
    for source, of_source in bases.items():
        first: dict[int, int] = {}
        living: set[int] = set()
        for piece in wal:
            if piece.source == source:
                number = segment_number(piece.segment, rules.segment_bytes)
                first[piece.timeline] = min(number, first.get(piece.timeline, number))
                if piece.written_at >= begins:
                    living.add(piece.timeline)
        before = [each for each in of_source if each.manifest.finished_at <= begins]
        for each in of_source:
            if each not in before:
                each.window = True
                each.stay(5, "it ended inside the promised window of PITR")
        for each in _anchors(before, first, living):
            each.window = True
            each.stay(5, f"PITR to any time since {begins:%F %H:%M} begins with it")


def _anchors(before: list[_Judged], first: Mapping[int, int], living: Iterable[int]) -> list[_Judged]:
    """The base backups that times inside the window may begin with; `first` segment of each timeline."""
    found: list[_Judged] = []
    for timeline in living:
        own = [each for each in before if each.timeline == timeline]
        if own:
            found.append(max(own, key=lambda each: each.end))
            continue
        for earlier in {each.timeline for each in before if each.timeline < timeline}:
            of_it = sorted((each for each in before if each.timeline == earlier), key=lambda each: each.end)
            for branch in (at for later, at in first.items() if earlier < later <= timeline):
                # where inside its first segment a timeline branched is not known
                found += [each for each in of_it if branch < each.end <= branch + 1]
                found += [each for each in of_it if each.end <= branch][-1:]
    return found


def _judge_wal(
    backups: list[_Judged], wal: Sequence[WalObject], rules: Rules, now: datetime
) -> list[Decision]:
    signs = [at for each in backups for at in (each.manifest.started_at, each.manifest.finished_at)]
    life = _Life([*signs, *(each.written_at for each in wal)], now, rules.silence)
    longest: dict[tuple[str, str], int] = {}
    newest: dict[str, datetime] = {}
    settled = now - rules.superseded
    for each in wal:
        newest[each.source] = max(each.written_at, newest.get(each.source, each.written_at))
        if each.written_at <= settled:
            key = each.source, each.segment
            longest[key] = max(each.end_offset, longest.get(key, 0))
    based = {each.manifest.source for each in backups if each.family == "base"}
    floors: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for base in backups:
        if base.window and base.stays:
            floors[base.manifest.source].append((base.timeline, base.begin))
    if life.silent:
        return list(_nothing_goes((), wal, f"no sign of life for {_days(rules.silence)}"))
    kept = rules.kept.get(("postgres", "full"))
    forgotten = None if kept is None or not backups else life.ago(max(kept, rules.window))
    return [_one_wal(each, rules, longest, newest, based, floors, forgotten) for each in wal]


def _one_wal(
    each: WalObject,
    rules: Rules,
    longest: Mapping[tuple[str, str], int],
    newest: Mapping[str, datetime],
    based: Collection[str],
    floors: Mapping[str, list[tuple[int, int]]],
    forgotten: datetime | None,
) -> Decision:
    def line(goes: bool, case: int, reason: str) -> Decision:
        return Decision("wal", "postgres", each.name, each.bytes, goes, case, reason)

    if each.end_offset < longest.get((each.source, each.segment), 0):
        return line(True, 8, "a longer part of the same segment is stored")
    if each.source not in based:
        if forgotten is None or newest[each.source] > forgotten:
            return line(False, 9, "no base backup of this server is listed")
        return line(True, 9, "no base backup of this server is listed, and it wrote none for long")
    number = segment_number(each.segment, rules.segment_bytes)
    if any(timeline <= each.timeline and number >= begin for timeline, begin in floors.get(each.source, ())):
        return line(False, 10, "PITR inside the promised window may replay it")
    return line(True, 11, f"older than what PITR of the last {_days(rules.window)} replays")


def _nothing_goes(backups: Iterable[Backup], wal: Iterable[WalObject], why: str) -> tuple[Decision, ...]:
    kept = [backup.manifest for backup in backups]
    return (
        *(Decision("backup", each.store, each.id, each.stored_bytes, False, 1, why) for each in kept),
        *(Decision("wal", "postgres", each.name, each.bytes, False, 1, why) for each in wal),
    )


def _days(span: timedelta) -> str:
    days = span / timedelta(days=1)
    return f"{days:g} days" if days >= 1 else f"{span / timedelta(hours=1):g} hours"


def chain_first(decisions: Iterable[Decision], manifests: Mapping[str, Manifest]) -> list[Decision]:
    """Backups that go, those that build on others before these."""

    def depth(decision: Decision) -> int:
        steps, parent = 0, manifests[decision.name].parent
        while parent is not None and parent in manifests and steps < len(manifests):
            steps, parent = steps + 1, manifests[parent].parent
        return steps

    going = [each for each in decisions if each.subject == "backup" and each.goes]
    return sorted(going, key=depth, reverse=True)
