"""Batches until an index is as near to PostgreSQL as it may be when it starts to serve.

Each batch takes what was committed since the one before, so each is shorter, unless more is written
meanwhile than OpenSearch takes. Open transactions are not waited for, however old: what they commit is in a
later batch.
"""

from __future__ import annotations

import time

from bilten_orchestration.errors import TransientError
from bilten_orchestration.search.batch import Applied, Work, caught_up


def catch_up(work: Work) -> list[Applied]:
    """The batches that were needed. TransientError when they do not get near in the time they have."""
    search = work.settings.search
    deadline = time.monotonic() + search.catch_up_seconds
    batches: list[Applied] = []
    while not batches or batches[-1].lag_seconds > search.lag_seconds:
        if time.monotonic() > deadline:
            first, last = batches[0].lag_seconds, batches[-1].lag_seconds
            raise TransientError(
                f"{work.index} does not catch up",
                expected=f"a lag of {search.lag_seconds:g} s within {search.catch_up_seconds} s",
                found=f"{last:.1f} s after {len(batches)} batches, the first was {first:.1f} s: "
                + ("slow, but nearer each time" if last < first / 2 else "it gets no nearer"),
                next="the same again, which goes on here; BILTEN_SEARCH__LAG_SECONDS if it never comes near",
            )
        with caught_up(work) as pinned:
            batches.append(pinned.applied)
        work.progress(f"{work.index}: {batches[-1].lag_seconds:.2f} s behind")
    return batches
