"""The index of a drill against the one that serves: which documents must be equal, and whether they are.

The drill's index is PostgreSQL as it came back, which ends before now. The live one has gone on. Both were
there at one moment that is known exactly: the newest batch of the live index that the restored PostgreSQL
remembers, with its snapshot. Every event that production has not changed since that snapshot is the same in
both, to the last character; which ones it has changed is asked of production by the marks that the delta
goes by, and only about documents that differ, after the live index was read. Those are left out: the drift
check of every day is for them.

Compared is the content of every document, computed from what both indices return; availability and
popularity are outside of it, as everywhere. Nothing can be compared where nothing serves, where the live
index was made by another definition, where the restored PostgreSQL does not remember it (it began to serve
after the last WAL that is stored), and where production is of another epoch, by whose transactions nothing is
told.

Only reads, of production too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bilten_orchestration.drills.marts import NothingToCompare
from bilten_orchestration.ingestion.source import Since
from bilten_orchestration.ingestion.state import SyncState, read_epoch
from bilten_orchestration.progress import Progress
from bilten_orchestration.search import dead_letters, definition, documents, marks
from bilten_orchestration.search.comparison import SAMPLE, Difference, index_hashes
from bilten_orchestration.search.documents import KeyRange
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from opensearchpy import OpenSearch


@dataclass(frozen=True, slots=True)
class Agreement:
    """`compared` documents; `left_out` of the others differ, and production has changed them since, or they
    are dead letters. `differing` must be equal and are not; `sample` are some of them: extra is what only the
    live index has, missing what it lacks."""

    compared: int
    left_out: int
    differing: int
    sample: tuple[Difference, ...]


def agree(
    settings: Settings,
    restored: Connection,
    client: OpenSearch,
    *,
    index: str,
    live: str | None,
    progress: Progress,
) -> Agreement:
    """`settings` are production's, `restored` is a session of the restored PostgreSQL, `live` what the alias
    is on. Memory is that of two ranges of keys.

    Raises NothingToCompare, and what the stores raise.
    """
    if live is None:
        raise _nothing(f"{definition.ALIAS} does not exist", "an index behind it", "bilten search reindex")
    _refuse_another_definition(client, live)
    with (
        translated("the comparison with the live index"),
        postgres.connect(
            settings.postgres, "etl", application_name="bilten drill", autocommit=True
        ) as production,
    ):
        known = _remembered(restored, production, live)
        progress(f"comparing with {live} as of its batch {known.batch}")
        since = Since(known.mark, known.snapshot)
        dead = {*dead_letters.open_letters(production, live), *dead_letters.open_letters(restored, index)}
        total = Agreement(0, 0, 0, ())
        for keys in documents.key_ranges(restored, settings.search.range_documents):
            total = _added(total, _range(production, client, since, dead, (index, live), keys))
    return total


def _range(
    production: Connection,
    client: OpenSearch,
    since: Since,
    dead: set[str],
    indices: tuple[str, str],
    keys: KeyRange,
) -> Agreement:
    ours, theirs = (dict(index_hashes(client, each, keys)) for each in indices)
    differ = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    out = differ & dead
    if asked := differ - out:
        # after the live index was read: whatever it showed by then was committed before
        out |= {str(row[0]) for row in production.execute(documents.changed_among(since, asked)).fetchall()}
    wrong = sorted(differ - out)
    return Agreement(
        len(ours.keys() | theirs.keys()) - len(out),
        len(out),
        len(wrong),
        tuple(
            Difference(key, "extra" if key not in ours else "missing" if key not in theirs else "changed")
            for key in wrong[:SAMPLE]
        ),
    )


def _added(one: Agreement, other: Agreement) -> Agreement:
    return Agreement(
        one.compared + other.compared,
        one.left_out + other.left_out,
        one.differing + other.differing,
        (one.sample + other.sample)[:SAMPLE],
    )


def _refuse_another_definition(client: OpenSearch, live: str) -> None:
    found = definition.difference(client.indices.get(index=live)[live])
    if found.changes:
        raise _nothing(
            f"{live} was made by another definition", f"mapping {found.wanted_hash}", "bilten search mapping"
        )


def _remembered(restored: Connection, production: Connection, live: str) -> SyncState:
    known = marks.followed(restored, live)
    if known.batch == 0:
        raise _nothing(
            f"the restored PostgreSQL does not remember {live}",
            "a batch of it in the WAL that is stored",
            "the next drill has it; bilten wal status",
        )
    if known.epoch != (epoch := read_epoch(production)):
        raise _nothing(
            f"{live} was last brought up from another epoch of PostgreSQL",
            str(epoch),
            "bilten search delta --accept-epoch, and the next drill",
        )
    return known


def _nothing(what: str, expected: str, helps: str) -> NothingToCompare:
    return NothingToCompare(what, expected=expected, found="nothing to compare", next=helps)
