"""What has to be done to a table's partitions, and why: pure over what seen.py read.

Rules, the same numbers in the tests. A partition is one of the catalogue's, whatever it is called; `now` is
the server's clock.

    Creating
    1   a period from the first one asked for to the current one plus `premake` that nothing covers: create
    2   a default partition: nothing is created or ended, and it is said how to be rid of it
    3   a period that is covered in part: problem; the other periods are created all the same
    4   the name of a period is taken by another table: problem, likewise
    Ending, after what earlier runs began
    5   a detach that is pending: finalize
    6   detached by us, and not archived: archive, then drop (at_end drop: drop; keep_detached: keep); within
        the retention, which was made longer since: keep, and problem
    7   detached by us, and archived: drop, which checks digest and archive once more
    8   attached, and over before the retention begins: detach, then as 6
    9   ... unless it holds the newest rows of the table: keep
    10  ... unless it was restored, and its hold has not ended: keep
    11  ... unless more than `limit` partitions would end in this run: keep, until told otherwise
    12  ... unless a foreign key has rows that reference it: keep, and problem
    13  nothing ends where clocks or data do not say that the time has passed: keep, and problem (trust.py)
    14  a partition that somebody else detached is nobody's: problem, never ended
    15  an archive whose own retention is over: expire (archive_retention.py)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from bilten_orchestration.errors import Problem
from bilten_orchestration.partitions import archive_retention
from bilten_orchestration.partitions.actions import Action, ActionName, Plan
from bilten_orchestration.partitions.archives import Archive
from bilten_orchestration.partitions.bounds import Period, periods
from bilten_orchestration.partitions.postgres.catalogue import Attached
from bilten_orchestration.partitions.postgres.obstacles import (
    by_hand_problem,
    default_problem,
    in_part_problem,
    kept_again_problem,
    referenced_problem,
    taken_problem,
)
from bilten_orchestration.partitions.postgres.seen import Detached, Seen


def plan(seen: Seen, *, limit: int, first: datetime | None = None, untrusted: Sequence[Problem] = ()) -> Plan:
    """What one table needs. `first`: partitions are there from its period on; default: from the oldest that
    there is, within the retention. `untrusted` is why nothing may end (trust.py), empty where it may."""
    planner = _Planner(seen, limit, untrusted)
    if planner.default():
        return Plan((), tuple(planner.problems))
    planner.create(first)
    planner.strangers()
    planner.end()
    planner.expire()
    return Plan(tuple(planner.actions), tuple(planner.problems))


class _Planner:
    def __init__(self, seen: Seen, limit: int, untrusted: Sequence[Problem]) -> None:
        self.seen, self.table, self.limit, self.untrusted = seen, seen.table, limit, untrusted
        self.actions: list[Action] = []
        self.problems: list[Problem] = []

    def default(self) -> bool:
        found = [p for p in self.seen.attached if p.is_default]
        self.problems += [default_problem(self.table, p) for p in found]
        return bool(found)

    # -- creating -----------------------------------------------------------------------------

    def create(self, first: datetime | None) -> None:
        there = {(p.low, p.high) for p in self.seen.attached}
        for period in self._wanted(first):
            low, high = period.start, period.end
            if (low, high) in there:
                continue
            over = [p for p in self.seen.attached if p.overlaps(low, high)]
            name = f"{self.table.table}_{period.suffix}"
            if any(p.covers(low, high) for p in over):
                continue
            if over:
                self.problems.append(in_part_problem(self.table, period, over))
            elif name in self.seen.taken:
                self.problems.append(taken_problem(self.table, name))
            else:
                past = period.end <= self.seen.now
                reason = "a gap: nothing covers it" if past else "no partition covers it"
                self.actions.append(
                    Action(self.table.name, f"{self.table.schema}.{name}", "create", reason, low, high, 1)
                )

    def _wanted(self, first: datetime | None) -> Iterator[Period]:
        table, now = self.table, self.seen.now
        interval = table.interval
        oldest = min((p.low for p in self.seen.attached if p.low is not None), default=now)
        begin = min(first, now) if first else max(min(oldest, now), table.kept_from(now))
        # what was detached or dropped is no gap
        left = [(r.from_at, r.to_at) for r in self.seen.recorded if r.state not in ("attached", "planned")]
        for period in periods(Period.of(begin, interval), Period.of(now, interval).plus(table.premake)):
            if not any(
                (low is None or low < period.end) and (high is None or period.start < high)
                for low, high in left
            ):
                yield period

    # -- ending -------------------------------------------------------------------------------

    def strangers(self) -> None:
        for each in self.seen.detached:
            if not self._ours(each):
                self.problems.append(by_hand_problem(self.table, each))
                self._keep(each.name, each.low, each.high, 14, "somebody else detached it")

    def end(self) -> None:
        begun = [p for p in self.seen.attached if p.detach_pending]
        loose = [each for each in self.seen.detached if self._ours(each)]
        over = [p for p in self.seen.attached if self._over(p)]
        if (begun or loose or over) and self.untrusted:
            self.problems += self.untrusted
            for name, low, high in (
                *((p.name, p.low, p.high) for p in (*begun, *over)),
                *((d.name, d.low, d.high) for d in loose),
            ):
                self._keep(name, low, high, 13, self.untrusted[0].what)
            return
        for p in begun:
            self._add(p.name, "finalize", "its detach was interrupted", p.low, p.high, 5, bytes=p.bytes)
            self._after(p.name, p.low, p.high, p.bytes)
        for each in loose:
            self._after(each.name, each.low, each.high, each.bytes, each)
        ending = 0
        for p in over:
            if reason := self._kept(p, ending):
                self._keep(p.name, p.low, p.high, *reason)
                continue
            ending += 1
            reason_text = f"over since {p.high:%F}, kept from {self.table.kept_from(self.seen.now):%F} on"
            self._add(p.name, "detach", reason_text, p.low, p.high, 8, rows=p.rows, bytes=p.bytes)
            self._after(p.name, p.low, p.high, p.bytes)

    def _ours(self, each: Detached) -> bool:
        return each.like_parent and each.recorded.state in ("detaching", "detached", "archived")

    def _over(self, p: Attached) -> bool:
        kept_from = self.table.kept_from(self.seen.now)
        return not p.detach_pending and p.high is not None and p.high <= kept_from

    def _kept(self, p: Attached, ending: int) -> tuple[int, str] | None:
        hold = self.seen.hold_until(p)
        if self.seen.newest is None:
            return 9, "no partition of the table holds rows: nothing says that time has passed"
        if self.seen.newest.oid == p.oid and self.seen.newest.name == p.name:
            return 9, "it holds the newest rows of the table"
        if hold is not None and hold > self.seen.now:
            return 10, f"restored, and held until {hold:%F %H:%M} UTC"
        if (key := self.seen.referenced.get(p.name)) is not None:
            self.problems.append(referenced_problem(p, key))
            return 12, f"rows of it are referenced: {key}"
        if ending >= self.limit:
            return 11, f"more than {self.limit} in one run: bilten partitions apply --limit"
        return None

    def _after(
        self,
        name: str,
        low: datetime | None,
        high: datetime | None,
        size: int,
        each: Detached | None = None,
    ) -> None:
        """What follows the detach, by what the declaration says."""
        if high is None or high > self.table.kept_from(self.seen.now):
            self.problems.append(kept_again_problem(self.table, name, low, high))
            self._keep(name, low, high, 6, "detached, and within the retention by now")
            return
        if self.table.at_end == "keep_detached":
            if each is not None:
                self._keep(name, low, high, 6, "detached, and kept so")
            return
        if self.table.at_end == "drop":
            self._add(name, "drop", "detached, and not to be archived", low, high, 6, bytes=size)
            return
        archive = self._archive(low, high, each)
        if archive is None:
            self._add(name, "archive", "not archived yet", low, high, 6, bytes=size)
            self._add(name, "drop", "once its archive is proven", low, high, 6, bytes=size)
        else:
            self._add(
                name,
                "drop",
                f"archived as {archive.id}",
                low,
                high,
                7,
                rows=archive.rows,
                bytes=size,
                archive=archive.document,
            )

    def _archive(self, low: datetime | None, high: datetime | None, each: Detached | None) -> Archive | None:
        found = [a for a in self.seen.archives if (a.from_at, a.to_at) == (low, high)]
        return max(found, key=lambda a: a.begun_at, default=None)

    # -- archives -----------------------------------------------------------------------------

    def expire(self) -> None:
        found = archive_retention.plan(
            self.table,
            self.seen.archives,
            now=self.seen.now,
            here=[
                *((p.low, p.high) for p in self.seen.attached),
                *((d.low, d.high) for d in self.seen.detached),
            ],
            has_rows=self.seen.newest is not None,
            limit=self.limit,
            untrusted=self.untrusted,
        )
        self.actions += found.actions
        self.problems += [each for each in found.problems if each not in self.problems]

    # -- lines --------------------------------------------------------------------------------

    def _add(
        self,
        name: str,
        action: ActionName,
        reason: str,
        low: datetime | None,
        high: datetime | None,
        case: int,
        *,
        rows: int | None = None,
        bytes: int | None = None,
        archive: str | None = None,
    ) -> None:
        self.actions.append(
            Action(self.table.name, name, action, reason, low, high, case, rows, bytes, archive)
        )

    def _keep(self, name: str, low: datetime | None, high: datetime | None, case: int, reason: str) -> None:
        self._add(name, "keep", reason, low, high, case)
