"""Whether time has passed: what is ended for its age needs several witnesses, for a clock may be wrong.

    this machine and the server agree            within `APART`
    the object store's clock agrees with them    likewise; it is asked for where something would be archived
    rows are young                               the newest partition with rows, of all declared tables, is
                                                 not over for longer than `silence_days`

The last one is for the day on which all clocks are a year ahead, as on one machine they would be: rows do not
get older by that. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from bilten_orchestration.errors import Problem
from bilten_orchestration.partitions.postgres.seen import Seen

APART = timedelta(minutes=15)


def untrusted(
    tables: Iterable[Seen], machine: datetime, store: datetime | None, silence: timedelta
) -> list[Problem]:
    """Why nothing may end; empty where it may. `store` is the object store's clock, None where no archive is
    needed."""
    seen = list(tables)
    if not seen:
        return []
    server = max(each.now for each in seen)
    found = [
        Problem(
            f"nothing is ended: {who} and PostgreSQL do not agree on the time",
            expected=f"{server:%F %T} UTC, as PostgreSQL says",
            found=f"{at:%F %T} UTC",
            next="correct the clock that is wrong",
        )
        for who, at in (("this machine", machine), ("the object store", store))
        if at is not None and abs(at - server) > APART
    ]
    newest = max(
        (each.newest.high for each in seen if each.newest is not None and each.newest.high is not None),
        default=None,
    )
    if newest is not None and server - newest > silence:
        found.append(
            Problem(
                "nothing is ended: the newest rows are old, and time without rows makes nothing older",
                expected=f"rows of the last {silence.days} days in one of {len(seen)} tables",
                found=f"the newest partition with rows ended {newest:%F}",
                next="see why nothing is written, or correct the clocks (all of them may be ahead)",
            )
        )
    return found
