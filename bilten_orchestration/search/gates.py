"""What must hold before an index serves. Each gate is asked, also when one before it has failed.

A gate is a function of an index that holds exactly what a snapshot of PostgreSQL shows (batch.pinned). It
gives a verdict; it raises only where it could not judge, and then there is no swap either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bilten_orchestration.errors import Problem
from bilten_orchestration.search.batch import Pinned
from bilten_orchestration.search.comparison import SAMPLE, compare_all, counts_differ
from bilten_orchestration.search.golden import Golden

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

# segments that are not merged yet, and deletes that the old index still holds
_SIZE_SLACK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """`sample` is bounded; `expected` and `found` are in words."""

    gate: str
    ok: bool
    expected: str
    found: str
    sample: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def problem(self, index: str) -> Problem:
        shown = "; ".join(self.sample)
        return Problem(
            f"{index} was refused by the gate '{self.gate}'",
            expected=self.expected,
            found=f"{self.found}: {shown}" if shown else self.found,
            next="the index before it goes on serving; "
            + (
                "bilten search reindex --accept-size, if the number of events really changed that much"
                if self.gate == "size"
                else "bilten search reindex --fresh builds another one"
            ),
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """What gates look at. `before` serves now; None for the first index."""

    pinned: Pinned
    before: str | None


Gate = Callable[[Judged], Verdict]


def judge(judged: Judged, gates: Sequence[Gate]) -> tuple[Verdict, ...]:
    """The verdict of every gate, in order."""
    verdicts = []
    for gate in gates:
        started = time.monotonic()
        verdict = gate(judged)
        seconds = time.monotonic() - started
        judged.pinned.work.progress(
            f"gate {verdict.gate}: {'passed' if verdict.ok else 'refused'}, {verdict.found}"
        )
        verdicts.append(
            Verdict(verdict.gate, verdict.ok, verdict.expected, verdict.found, verdict.sample, seconds)
        )
    return tuple(verdicts)


def dead_letters(judged: Judged) -> Verdict:
    """What the server refused is missing on purpose in the other gates; here it is bounded."""
    work, letters = judged.pinned.work, judged.pinned.without
    most = work.settings.search.dead_letters_max
    return Verdict(
        "dead_letters", len(letters) <= most, f"at most {most}", f"{len(letters)}", tuple(letters[:SAMPLE])
    )


def counts(judged: Judged) -> Verdict:
    """Documents per status and organizer."""
    groups, differ, sample = counts_differ(judged.pinned)
    return Verdict(
        "counts",
        differ == 0,
        f"{groups:,} groups of status and organizer as in PostgreSQL",
        f"{differ:,} that differ",
        tuple(sample),
    )


def content(judged: Judged) -> Verdict:
    """The hash of every document, per range of keys."""
    found = compare_all(judged.pinned)
    return Verdict(
        "content",
        found.equal,
        f"{found.documents_postgres:,} documents in {found.ranges:,} ranges as PostgreSQL has them",
        f"{found.documents_opensearch:,}: {found.missing:,} missing, {found.extra:,} too many, "
        f"{found.changed:,} that differ",
        tuple(f"{each.document_id} {each.state}" for each in found.differences[:SAMPLE]),
    )


def golden(judged: Judged) -> Verdict:
    """The questions of the application, answered as PostgreSQL would. The same ones for the same index."""
    work = judged.pinned.work
    asked = Golden(
        work.settings.opensearch,
        work.client,
        work.index,
        judged.pinned.connection,
        work.index,
        judged.pinned.without,
    )
    kinds = list(asked.ask())
    wrong = [kind for kind in kinds if not kind.ok]
    return Verdict(
        "golden",
        not wrong,
        "; ".join(f"{kind.kind} {kind.wanted:.0%}" for kind in kinds) or "nothing to ask without events",
        "; ".join(f"{kind.kind} {kind.right} of {kind.asked}" for kind in kinds) or "nothing asked",
        tuple(
            f"{each.question}: {each.expected} expected, {each.found} found"
            for kind in wrong
            for each in kind.differing
        )[:SAMPLE],
    )


def size(judged: Judged) -> Verdict:
    """Bytes of the primaries against those of the index that serves."""
    work = judged.pinned.work
    _, ours = size_of(work.client, work.index)
    if judged.before is None:
        return Verdict("size", ok=True, expected="any, for the first index", found=f"{ours:,} bytes")
    _, theirs = size_of(work.client, judged.before)
    ratio = work.settings.search.size_ratio
    return Verdict(
        "size",
        abs(ours - theirs) <= max(ratio * theirs, _SIZE_SLACK_BYTES),
        f"{theirs:,} bytes, as {judged.before}, within {ratio:.0%} or {_SIZE_SLACK_BYTES >> 20} MiB",
        f"{ours:,} bytes",
    )


def size_of(client: OpenSearch, index: str) -> tuple[int, int]:
    """(documents, bytes) of the primaries. Nested documents (prices) are not counted as documents."""
    stats = client.indices.stats(index=index, metric="store")
    documents = client.count(index=index)["count"]
    return int(documents), int(stats["indices"][index]["primaries"]["store"]["size_in_bytes"])


GATES: tuple[Gate, ...] = (dead_letters, counts, content, golden, size)
