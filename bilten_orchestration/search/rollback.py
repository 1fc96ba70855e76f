"""The index before, once more in place of the one that serves.

It is brought up first, by the batches that it has missed (batch.py), and proven by the gates of content, so
that nobody finds yesterday's events. Fields that its mapping does not know are left out of its documents.

What a kill leaves behind: the lease, which the next one takes over; a kept index that is further than it was,
which is as good; or what swap.py says. The same call again goes on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from bilten_orchestration.errors import Problem, Refused
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.search import definition, gates, lease, state
from bilten_orchestration.search.batch import caught_up, open_work
from bilten_orchestration.search.catch_up import catch_up
from bilten_orchestration.search.gates import Judged, Verdict
from bilten_orchestration.search.opened import Opened, opened
from bilten_orchestration.search.swap import swap
from bilten_orchestration.settings import Settings

JUDGES = (gates.dead_letters, gates.counts, gates.content)


@dataclass(frozen=True, slots=True)
class RollbackReport:
    """`changes` were replayed. Not `swapped`: `verdicts` say why, and `before` goes on serving."""

    index: str
    before: str
    swapped: bool
    batches: int
    changes: int
    lag_seconds: float
    omitted_fields: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    seconds: float

    @property
    def problems(self) -> list[Problem]:
        return [verdict.problem(self.index) for verdict in self.verdicts if not verdict.ok]


def rollback(
    settings: Settings,
    *,
    to: str | None = None,
    run_id: str = "bilten search rollback",
    progress: Progress = silent,
) -> RollbackReport:
    """Go back to the index that served before, or to another kept one.

    Raises Refused (nothing to go back to; another epoch), LockHeld, TransientError (it does not catch up).
    """
    started = time.monotonic()
    with (
        opened(settings, "the rollback", loads=True) as stores,
        lease.held(settings, run_id, stores.connection) as held,
    ):
        before, target = _target(stores, to, run_id)
        work = open_work(
            settings,
            stores.connection,
            stores.client,
            target,
            check=held.check,
            progress=progress,
            helps="bilten search reindex",
        )
        applied = catch_up(work)
        with caught_up(work) as pinned:
            applied.append(pinned.applied)
            verdicts = gates.judge(Judged(pinned, before), JUDGES)
        passed = all(verdict.ok for verdict in verdicts)
        if passed:
            applied += catch_up(work)
            swap(
                stores.connection,
                stores.client,
                held,
                before=before,
                after=target,
                reason="rollback",
                run_id=run_id,
            )
            progress(f"{definition.ALIAS} is {target}")
            with caught_up(work) as last:
                applied.append(last.applied)
    return RollbackReport(
        index=target,
        before=before,
        swapped=passed,
        batches=len(applied),
        changes=sum(each.operations for each in applied),
        lag_seconds=applied[-1].lag_seconds,
        omitted_fields=work.omitted,
        verdicts=verdicts,
        seconds=time.monotonic() - started,
    )


def _target(stores: Opened, to: str | None, run_id: str) -> tuple[str, str]:
    """(the index that serves, the one to go back to)."""
    before = state.settle(stores.connection, stores.client, run_id)
    row = stores.connection.execute(
        "select previous_index from system.search_state where alias = %s", (definition.ALIAS,)
    ).fetchone()
    target = to or (row[0] if row else None)
    kept = {
        index.name
        for index in state.indices(stores.connection)
        if index.state == "kept" and stores.client.indices.exists(index=index.name)
    }
    if before is None or target is None or target not in kept:
        raise Refused(
            "there is no index to go back to" if to is None else f"{to} is no index to go back to",
            expected=f"one of: {', '.join(sorted(kept))}" if kept else "an index that served and is kept",
            found=target or "none",
            next="bilten search status lists them; bilten search reindex makes a new one",
        )
    return before, target
