"""A new index, built beside the one that serves, proven, and put in its place.

From one exported snapshot, ranges of keys side by side, without refreshes and replicas (loading.py); then
batches of what changed since, until one is no more than BILTEN_SEARCH__LAG_SECONDS behind (catch_up.py); then
the gates, on exactly the snapshot of one batch (gates.py); then the alias (swap.py). Nobody is kept from
writing at any time, and open transactions are not waited for: what they commit is in a later batch.

What a kill leaves behind. The numbers are those in the code, here and in loading.py. The next call goes on
with the same index, but not where the definition has changed, or the build is older than tombstones live:
then it is left for prune.

 1  the lease, which the next one takes over
 2  a record of an index that was not made: it is left
 3  an index without a plan of ranges: planned anew
 4  mark of the first snapshot and ranges are in PostgreSQL, in one transaction. From here on whatever changes
    is in a later batch, whichever snapshot a range is loaded from
 5  ranges that were finished stay. Others are loaded again from a new snapshot, under a higher number. What
    was sent of them before, and is gone by now, changed after the first mark: a batch deletes it
 6  loaded: settings for serving are set again, batches go on at the mark
 7  caught up; judged or not: judged again
 8  see swap.py
 9  swapped. The last batch is also that of the next delta
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bilten_orchestration.errors import Problem, Refused
from bilten_orchestration.ingestion.state import Epoch, read_epoch
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.search import definition, gates, lease, loading, marks, state
from bilten_orchestration.search.batch import (
    Applied,
    Work,
    caught_up,
    unknown_fields,
)
from bilten_orchestration.search.catch_up import catch_up
from bilten_orchestration.search.gates import Gate, Judged, Verdict
from bilten_orchestration.search.loading import Loaded
from bilten_orchestration.search.opened import Opened, opened
from bilten_orchestration.search.swap import swap
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres

if TYPE_CHECKING:
    from bilten_orchestration.search.lease import Lease

# a build must end while tombstones of its beginning still keep their versions
_RESUMED_WITHIN = timedelta(seconds=definition.GC_DELETES_SECONDS / 2)
_SIZE_GATE = "size"


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What became of a build. Not `swapped`: `verdicts` say why, and `before` goes on serving."""

    index: str
    before: str | None
    swapped: bool
    resumed: bool
    loaded: Loaded
    batches: int
    changes: int
    lag_seconds: float
    documents: int
    bytes: int
    dead_letters: int
    verdicts: tuple[Verdict, ...]
    seconds: float
    phases: dict[str, float] = field(default_factory=dict)

    @property
    def problems(self) -> list[Problem]:
        return [verdict.problem(self.index) for verdict in self.verdicts if not verdict.ok]


def rebuild(
    settings: Settings,
    *,
    run_id: str = "bilten search reindex",
    fresh: bool = False,
    accept_size: bool = False,
    accept_epoch: bool = False,
    judges: Sequence[Gate] = gates.GATES,
    progress: Progress = silent,
) -> RebuildReport:
    """Build, prove and swap; go on with a build that was interrupted, unless `fresh`.

    `accept_size` leaves out the gate of that name, and goes on with an index that it alone has refused.
    `accept_epoch`: also where the index that serves shows another PostgreSQL, or another past of this one.
    The gates would not find that out: they compare with the one that is asked.
    Raises LockHeld (another builder), Refused (another epoch), Mismatch, StoreFull, StoreUnavailable.
    """
    with (
        opened(settings, "the rebuild", loads=True) as stores,
        lease.held(settings, run_id, stores.connection) as held,
    ):  # 1
        return _Rebuild(settings, stores, held, run_id, progress).run(
            fresh=fresh,
            accept_size=accept_size,
            accept_epoch=accept_epoch,
            judges=[gate for gate in judges if not (accept_size and gate is gates.size)],
        )


class _Rebuild:
    """One call; phases are timed for the report."""

    def __init__(
        self, settings: Settings, stores: Opened, held: Lease, run_id: str, progress: Progress
    ) -> None:
        self.settings = settings
        self.connection = stores.connection
        self.client = stores.client
        self.lease = held
        self.run_id = run_id
        self.progress = progress
        self.phases: dict[str, float] = {}
        self.batches = self.changes = 0
        self.started = self._since = time.monotonic()

    def run(
        self, *, fresh: bool, accept_size: bool, accept_epoch: bool, judges: Sequence[Gate]
    ) -> RebuildReport:
        before = state.settle(self.connection, self.client, self.run_id)
        epoch = read_epoch(self.connection)
        if before is not None and not accept_epoch:
            self._same_past(before, epoch)
        index = self._resumable(epoch, fresh=fresh, accept_size=accept_size)
        resumed = index is not None
        if index is None:
            index = definition.index_name(datetime.now(UTC))
            loading.make(self.connection, self.client, index, self.run_id)  # 2, 3
            self.progress(f"building {index}")
        work = Work(
            self.settings,
            self.connection,
            self.client,
            index,
            epoch,
            unknown_fields(self.client, index),
            self.lease.check,
            self.progress,
        )
        loaded = loading.fill(work)  # 4, 5
        self._phase("load")
        loading.ready(work, self._replicas())
        self._follow(work)  # 6
        self._phase("catch up")
        with caught_up(work) as pinned:  # 7
            self._count(pinned.applied)
            verdicts = gates.judge(Judged(pinned, before), judges)
            size = gates.size_of(self.client, index)
        passed = all(verdict.ok for verdict in verdicts)
        state.set_verdicts(
            self.connection,
            index,
            "building" if passed else "refused",
            [verdict.as_dict() for verdict in verdicts],
            size,
        )
        self._phase("gates")
        lag = pinned.applied.lag_seconds
        if passed:
            self._follow(work)
            swap(
                self.connection,
                self.client,
                self.lease,
                before=before,
                after=index,
                reason="rebuild",
                run_id=self.run_id,
            )  # 8
            self.progress(f"{definition.ALIAS} is {index}")
            with caught_up(work) as last:  # 9
                self._count(last.applied)
                lag = last.applied.lag_seconds
            self._phase("swap")
        return RebuildReport(
            index=index,
            before=before,
            swapped=passed,
            resumed=resumed,
            loaded=loaded,
            batches=self.batches,
            changes=self.changes,
            lag_seconds=lag,
            documents=size[0],
            bytes=size[1],
            dead_letters=len(pinned.without),
            verdicts=verdicts,
            seconds=time.monotonic() - self.started,
            phases=self.phases,
        )

    # -- the index ----------------------------------------------------------------------------

    def _same_past(self, before: str, epoch: Epoch) -> None:
        """Raises Refused: on a wrong address, an empty index would take the place of a full one."""
        known, has = marks.both(self.connection, self.client, before)
        if known.batch == has.batch == 0:
            return  # not one of ours: it says nothing of where it comes from
        if problems := marks.disagreements(known, before, has, epoch):
            helps = (
                "bilten search delta tells what differs; if BILTEN_POSTGRES__HOST is the right server: "
                "bilten search delta --accept-epoch, or bilten search reindex --accept-epoch"
            )
            raise Refused([*problems[:-1], replace(problems[-1], next=helps)])

    def _resumable(self, epoch: Epoch, *, fresh: bool, accept_size: bool) -> str | None:
        """The build to go on with; others that were begun and never ended are given up."""
        chosen = None
        now = postgres.clock(self.connection)
        for index in state.indices(self.connection):
            if index.state not in ("building", "refused"):
                continue
            why = self._not_resumable(index, epoch, now, accept_size=accept_size)
            if fresh:
                why = why or "a fresh one was asked for"
            if chosen is not None:
                why = why or f"{chosen} is newer"
            if why is None:
                chosen = index.name
                state.set_state(self.connection, chosen, "building")
                self.progress(f"going on with {chosen}, begun {index.started_at:%F %T} UTC")
            elif index.state == "building":
                state.set_state(self.connection, index.name, "abandoned")
                self.progress(f"{index.name} is given up: {why}")
        return chosen

    def _not_resumable(
        self, index: state.Index, epoch: Epoch, now: datetime, *, accept_size: bool
    ) -> str | None:
        if index.state == "refused" and not (accept_size and index.failed_gates == (_SIZE_GATE,)):
            return "it was refused"
        if index.mapping_hash != definition.mapping_hash():
            return "the definition has changed since"
        if now - index.started_at > _RESUMED_WITHIN:
            return f"it was begun more than {_RESUMED_WITHIN} ago"
        if not self.client.indices.exists(index=index.name):
            return "it was not made"
        known, has = marks.followed(self.connection, index.name), marks.carried(self.client, index.name)
        if known.batch and marks.disagreements(known, index.name, has, epoch):
            return "PostgreSQL is another one than it was begun from"
        return None

    def _replicas(self) -> int:
        nodes = int(self.client.cluster.health()["number_of_data_nodes"])
        return definition.replicas(self.settings.search.replicas, nodes)

    def _follow(self, work: Work) -> None:
        for applied in catch_up(work):
            self._count(applied)

    def _count(self, applied: Applied) -> None:
        self.batches += 1
        self.changes += applied.operations

    def _phase(self, name: str) -> None:
        now = time.monotonic()
        self.phases[name] = now - self._since
        self._since = now
