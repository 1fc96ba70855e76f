"""Whatever happened, and whenever retention ran: what could be restored inside the promised window still can.

The oracle knows how timelines truly branched, byte by byte; retention/rules.py sees listings alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from bilten_orchestration.backups.repository.catalogue import Backup
from bilten_orchestration.backups.repository.manifest import Manifest, Mark, WalRange
from bilten_orchestration.backups.retention.rules import Decision, Rules, WalObject, chain_first, decide

SEGMENT = 1 << 20
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass
class Timeline:
    """`commits` are (position, time) pairs; it left `parent` at `switch`."""

    parent: int | None
    switch: int
    commits: list[tuple[int, datetime]] = field(default_factory=list)


@dataclass
class World:
    rules: Rules
    now: datetime = BEGAN
    current: int = 1
    position: int = 5 * SEGMENT + 100
    timelines: dict[int, Timeline] = field(default_factory=lambda: {1: Timeline(None, 0)})
    wal: dict[str, WalObject] = field(default_factory=dict)
    backups: dict[str, Backup] = field(default_factory=dict)
    taken: int = 0

    def write(self, size: int, hours: float, shipped: int) -> None:
        """Commits, in pieces; of the segments it touches, those with number modulo 8 = `shipped` are lost."""
        for _ in range(4):
            self.now += HOUR * hours / 4
            before, self.position = self.position, self.position + max(size // 4, 1)
            self.timelines[self.current].commits.append((self.position, self.now))
            for number in range(before // SEGMENT, -(-self.position // SEGMENT)):
                end = min(SEGMENT, self.position - number * SEGMENT)
                if number % 8 != shipped:
                    self.store(number, end)

    def store(self, number: int, end: int) -> None:
        segment = f"{self.current:08X}{number * SEGMENT >> 32:08X}{number % (2**32 // SEGMENT):08X}"
        name = f"wal/1/{self.current:08X}/{segment}.{end}.k.s.1"
        self.wal.setdefault(name, WalObject(self.current, segment, end, name, 1, self.now))

    def back_up(self, kind: str, size: int, hours: float, listed: bool) -> None:
        begin, started = self.position, self.now
        self.write(size, hours, shipped=9)
        self.taken += 1
        parents = [
            each.manifest
            for each in self.backups.values()
            if each.manifest.kind == "full"
            and each.manifest.wal is not None
            and each.manifest.wal.timeline == self.current
        ]
        parent = parents[-1].id if kind == "incremental" and parents else None
        manifest = Manifest(
            id=f"{self.taken:03}",
            store="postgres",
            kind="incremental" if parent else "full",
            source="1",
            started_at=started,
            finished_at=self.now,
            raw_bytes=1,
            codec="zstd",
            objects=(),
            key_id="k",
            versions={},
            parent=parent,
            wal=WalRange(self.current, _said(begin), _said(self.position)),
        )
        if listed:
            self.backups[manifest.id] = Backup(manifest)

    def mark(self, name: str) -> None:
        if self.backups:
            backup = list(self.backups.values())[-1]
            found = Mark(backup.manifest.id, name, self.now, "")  # type: ignore[arg-type]
            self.backups[backup.manifest.id] = Backup(backup.manifest, (*backup.marks, found))

    def promote(self, back: int) -> None:
        """Here, or at an earlier position of this timeline: a restore to a point in time."""
        at = max(self.position - back, self.timelines[self.current].switch + 1)
        new = max(self.timelines) + 1
        self.timelines[new] = Timeline(self.current, at)
        self.current, self.position = new, at

    def restorable(self) -> set[tuple[int, int, datetime]]:
        """Every commit that some listed backup and the stored WAL bring back."""
        found = set()
        stored: dict[tuple[int, int], int] = {}
        for each in self.wal.values():
            number = int(each.segment[8:16], 16) * (2**32 // SEGMENT) + int(each.segment[16:], 16)
            key = each.timeline, number
            stored[key] = max(each.end_offset, stored.get(key, 0))
        for backup in self.backups.values():
            base = backup.manifest
            assert base.wal is not None
            if base.parent is not None and base.parent not in self.backups:
                continue
            for timeline, facts in self.timelines.items():
                path = self._path(base.wal.timeline, timeline)
                end = _number(base.wal.end_lsn)
                if path is None or any(end > self.timelines[later].switch for later in path[1:]):
                    continue
                reached = self._reached(path, end, stored)
                for position, at in facts.commits:
                    if end <= position <= reached:
                        found.add((timeline, position, at))
        return found

    def _path(self, old: int, new: int) -> list[int] | None:
        path = [new]
        while path[0] != old:
            parent = self.timelines[path[0]].parent
            if parent is None:
                return None
            path.insert(0, parent)
        return path

    def _reached(self, path: list[int], begin: int, stored: dict[tuple[int, int], int]) -> int:
        """How far replay comes on the last timeline of the path; a segment in which a timeline branched off
        holds the bytes before that too."""
        position = begin
        for index, timeline in enumerate(path):
            last = index + 1 == len(path)
            until = None if last else self.timelines[path[index + 1]].switch
            while until is None or position < until:
                number, offset = divmod(position, SEGMENT)
                ends = [
                    stored.get((each, number), 0)
                    for each in path[index:]
                    if each == timeline or self.timelines[each].switch // SEGMENT == number
                ]
                end = max(ends, default=0)
                if end <= offset:
                    return position if last else -1
                position = number * SEGMENT + end
                if until is not None:
                    position = min(position, until)
                elif end < SEGMENT:
                    return position
        return position

    def decide(self) -> tuple[Decision, ...]:
        backups = sorted(self.backups.values(), key=lambda each: each.manifest.started_at)
        return decide(backups, list(self.wal.values()), self.rules, self.now, self.now)

    def prune(self, killed_after: int | None) -> int:
        decisions = self.decide()
        manifests = {name: backup.manifest for name, backup in self.backups.items()}
        names = [each.name for each in chain_first(decisions, manifests)]
        names += sorted(each.name for each in decisions if each.subject == "wal" and each.goes)
        for name in names[:killed_after]:
            self.backups.pop(name, None)
            self.wal.pop(name, None)
        return len(names)


def _said(position: int) -> str:
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def _number(said: str) -> int:
    high, low = said.split("/")
    return (int(high, 16) << 32) | int(low, 16)


SIZES = st.sampled_from([1000, SEGMENT // 3, SEGMENT, 3 * SEGMENT])
HOURS = st.sampled_from([1, 5, 20, 30])
STEPS = st.one_of(
    st.tuples(st.just("write"), SIZES, HOURS, st.sampled_from([9, 9, 9, 9, 3])),
    st.tuples(st.just("write"), SIZES, HOURS, st.just(9)),
    st.tuples(st.just("full"), SIZES, HOURS, st.sampled_from([True, True, True, False])),
    st.tuples(st.just("incremental"), SIZES, HOURS, st.just(True)),
    st.tuples(st.just("promote"), st.sampled_from([0, 0, 500, SEGMENT // 2, 4 * SEGMENT])),
    st.tuples(st.just("prune"), st.sampled_from([None, None, 0, 1, 2, 5])),
    st.tuples(st.just("mark"), st.sampled_from(["verified", "drilled"])),
    st.tuples(st.just("idle"), st.sampled_from([10, 60, 400])),
)
RULES = st.builds(
    lambda full, incremental, window: Rules(
        {
            ("postgres", "full"): timedelta(days=full),
            ("postgres", "incremental"): timedelta(days=incremental),
        },
        window=timedelta(days=window),
        segment_bytes=SEGMENT,
    ),
    st.sampled_from([1, 4, 12]),
    st.sampled_from([1, 3]),
    st.sampled_from([2, 5]),
)


def _step(world: World, step: tuple[object, ...]) -> None:
    match step:
        case ("write", int(size), int(hours), int(shipped)):
            world.write(size, hours, shipped)
        case ("full" | "incremental" as kind, int(size), int(hours), bool(listed)):
            world.back_up(str(kind), size, hours / 10, listed)
        case ("promote", int(back)):
            world.promote(back)
        case ("mark", str(name)):
            world.mark(name)
        case ("idle", int(hours)):
            world.now += HOUR * hours
        case ("prune", killed_after):
            if _prune(world, killed_after):  # type: ignore[arg-type]
                event("something went, and something was promised")


def _prune(world: World, killed_after: int | None) -> bool:
    promised = world.now - world.rules.window
    before = {point for point in world.restorable() if point[2] >= promised}
    listed = set(world.backups)
    went = world.prune(killed_after)
    after = world.restorable()
    assert before <= after, sorted(before - after)[:3]
    for backup in world.backups.values():
        assert backup.manifest.parent is None or backup.manifest.parent in world.backups
    assert bool(listed) == bool(world.backups)
    if killed_after is None:
        assert not [each for each in world.decide() if each.goes], "a second run found more"
    return bool(went and before)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(RULES, st.lists(STEPS, min_size=10, max_size=45))
def test_no_promised_moment_is_lost(rules: Rules, steps: list[tuple[object, ...]]) -> None:
    world = World(rules)
    for step in steps:
        _step(world, step)
    _prune(world, None)


def test_in_a_calm_month_it_removes_what_it_should() -> None:
    """The rules bite: without this a retention that keeps everything would pass."""
    world = World(
        Rules(
            {
                ("postgres", "full"): timedelta(days=30),
                ("postgres", "incremental"): timedelta(days=7),
            },
            segment_bytes=SEGMENT,
        )
    )
    for _ in range(60):
        world.back_up("full", 1000, 0.5, True)
        for _ in range(5):
            world.write(SEGMENT, 3.5, 9)
            world.back_up("incremental", 1000, 0.1, True)
        world.write(SEGMENT, 5.5, 9)
        _prune(world, None)
    kinds = [backup.manifest.kind for backup in world.backups.values()]
    assert 29 <= kinds.count("full") <= 31
    assert 35 <= kinds.count("incremental") <= 37
    oldest = min(each.written_at for each in world.wal.values())
    assert timedelta(days=7) <= world.now - oldest <= timedelta(days=7, hours=12)
    segments = [each.segment for each in world.wal.values()]
    assert len(segments) - len(set(segments)) <= 3, "longer parts replace shorter ones"
