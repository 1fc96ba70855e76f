"""Search after a recovery of PostgreSQL: brought to it, and proven equal, document by document.

After a restore of a whole server the index is of another epoch and ahead of it: every document is written
again and the rest is removed (delta.py). Otherwise the marks lead there. Where there is no index the first
one is built. Each can be repeated; a kill leaves what they say.
"""

from __future__ import annotations

from dataclasses import dataclass

from bilten_orchestration.errors import Problem
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.search.delta import delta
from bilten_orchestration.search.drift import drift
from bilten_orchestration.search.mapping import examine
from bilten_orchestration.search.rebuild import rebuild
from bilten_orchestration.settings import Settings


@dataclass(frozen=True, slots=True)
class SearchSettled:
    """`written` documents were sent, `removed` were of another past; `documents` are equal if `equal`."""

    index: str
    documents: int
    written: int
    removed: int
    equal: bool
    problems: tuple[Problem, ...]


def settle(settings: Settings, *, accept_epoch: bool, progress: Progress = silent) -> SearchSettled | None:
    """None where search is off. Raises as rebuild and delta do; differences are in the report."""
    if not settings.opensearch.enabled:
        return None
    written = removed = 0
    problems: list[Problem] = []
    if examine(settings).index is None:
        built = rebuild(settings, run_id="bilten recover", progress=progress)
        written, problems = built.loaded.documents, built.problems
        if not built.swapped:
            return SearchSettled(built.index, built.documents, written, 0, False, tuple(problems))
    else:
        followed = delta(settings, accept_epoch=accept_epoch, run_id="bilten recover", progress=progress)
        written, removed = followed.applied.operations, followed.removed
        problems = followed.problems
    compared = drift(settings, whole=True, repair=False, run_id="bilten recover", progress=progress)
    return SearchSettled(
        compared.index,
        compared.compared.documents_opensearch,
        written,
        removed,
        compared.compared.equal,
        (*problems, *compared.problems),
    )
