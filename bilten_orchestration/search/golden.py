"""The gate of golden queries: a new index answers what the application asks as PostgreSQL would.

The questions (questions.py) are drawn by a seed and asked through query.py, so that what is proven is what
people will see. There are two kinds:

 1  exact: filters, dates, organizers, prices in a currency, circles, and the order by start. The total and
    the first LIMIT hits, one by one and in order, are what PostgreSQL gives. Events within EDGE of a circle's
    rim are left out on both sides: the two measure the earth a little differently.
 2  recall: a known event must be found by its title as a phrase, by a word of it in another form, and by a
    word of it with two letters exchanged. Which words a stemmer takes for one is no matter of right or
    wrong, so a share of them may be missed.

The connection must be in the snapshot that the index was brought to, and the index refreshed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import class_row

from bilten_orchestration.search import query
from bilten_orchestration.search.questions import (
    EARTH_METERS,
    EDGE,
    EDGE_METERS,
    EXACT_KINDS,
    METERS,
    SAMPLED,
    SHOWN,
    TEXT_KINDS,
    Exact,
    Known,
)
from bilten_orchestration.search.request import MAX_PAGE, SearchRequest, Sort, checked
from bilten_orchestration.settings import OpenSearchSettings
from bilten_orchestration.stores import opensearch
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

LIMIT: Final = 500  # hits of an exact question that are compared
SAMPLE: Final = 400  # events that questions are drawn from
EXACT: Final = 6  # questions of each exact kind
KNOWN: Final = 40  # known events of each kind of text
TOLD: Final = 5  # differences told of each kind
ANSWER_SECONDS: Final = 60
RECALL: Final = {"phrase": 1.0, "stemmed": 0.95, "misspelt": 0.9}


@dataclass(frozen=True, slots=True)
class Differing:
    """One question that was answered otherwise, in words."""

    question: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The questions of one kind: `right` of `asked` were, the share `wanted` must be, but for chance."""

    kind: str
    asked: int
    right: int
    wanted: float
    differing: tuple[Differing, ...]

    @property
    def ok(self) -> bool:
        # a few dozen questions of which one in ten may be missed: three standard deviations, none of a whole
        chance = 3 * math.sqrt(self.asked * self.wanted * (1 - self.wanted))
        return self.right >= self.wanted * self.asked - chance


class Golden:
    """The questions for one index, in one snapshot."""

    def __init__(
        self,
        settings: OpenSearchSettings,
        client: OpenSearch,
        index: str,
        connection: Connection,
        seed: str,
        without: Collection[str] = (),
    ) -> None:
        self._settings, self._client, self._index, self._connection = settings, client, index, connection
        self._random = random.Random(seed)  # noqa: S311 (the same questions for the same seed)
        self._bound = {"without": list(without), "earth": EARTH_METERS}
        self._known = self._sample(seed)

    def ask(self) -> Iterator[Answered]:
        """Every kind, one after the other. Raises StoreUnavailable, TerminalError."""
        if not self._known:
            return
        for kind, make in EXACT_KINDS.items():
            questions = [
                found for _ in range(EXACT) if (found := make(self._random, self._known)) is not None
            ]
            yield self._exact(kind, questions)
        for kind, text in TEXT_KINDS.items():
            yield self._recall(kind, text)

    def _exact(self, kind: str, questions: Sequence[Exact]) -> Answered:
        differing = [found for question in questions if (found := self._differs(question)) is not None]
        return Answered(kind, len(questions), len(questions) - len(differing), 1.0, tuple(differing[:TOLD]))

    def _differs(self, question: Exact) -> Differing | None:
        values = self._bound | question.values
        edge = "false"
        if question.distance:
            edge = f"abs({METERS} - %(radius)s) <= {EDGE} * %(radius)s + {EDGE_METERS}"
        statement = (
            f"with {SHOWN} select s.id::text, {edge}, "
            f"count(*) filter (where not ({edge})) over (), count(*) over () "
            f"from shown s where {question.condition} order by s.starts, s.id limit {LIMIT}"
        )
        rows = self._connection.execute(statement.encode(), values).fetchall()
        answer = self._search(question.request, LIMIT)
        edges = {row[0] for row in rows if row[1]}
        surely, possibly = (int(rows[0][2]), int(rows[0][3])) if rows else (0, 0)
        total = int(answer["hits"]["total"]["value"])
        asked = str(question.values)
        if not surely <= total <= possibly:
            wanted = str(surely) if surely == possibly else f"{surely} to {possibly}"
            return Differing(asked, f"{wanted} events", f"{total}")
        right = [row[0] for row in rows if row[0] not in edges]
        got = [hit["_id"] for hit in answer["hits"]["hits"] if hit["_id"] not in edges]
        for place, (here, there) in enumerate(zip(right, got, strict=False), start=1):
            if here != there:
                return Differing(asked, f"{here} in place {place}", there)
        # a short list may lack its end, where an event of the edge makes up for the total
        if possibly <= LIMIT and len(right) != len(got):
            return Differing(asked, f"{len(right)} events within the edges", f"{len(got)}")
        return None

    def _recall(self, kind: str, text: Callable[[random.Random, str], str | None]) -> Answered:
        asked = 0
        missed: list[Differing] = []
        for known in self._known:
            words = text(self._random, known.title)
            if words is None:
                continue
            asked += 1
            request = SearchRequest(
                text=words,
                organizers=(known.organizer_id,),
                # of one event that is held every hour there may be more than a page in a day
                starts_from=known.starts,
                starts_before=known.starts + timedelta(seconds=1),
                sort=Sort.RELEVANCE,
                fuzzy=kind == "misspelt",
            )
            hits = self._search(request, MAX_PAGE)["hits"]["hits"]
            if known.id not in {hit["_id"] for hit in hits}:
                missed.append(Differing(words, f"{known.id}: {known.title}", f"{len(hits)} others"))
            if asked == KNOWN:
                break
        return Answered(kind, asked, asked - len(missed), RECALL[kind], tuple(missed[:TOLD]))

    def _search(self, request: SearchRequest, size: int) -> dict[str, Any]:
        body = query.body(checked(request)) | {"size": size, "track_total_hits": True, "_source": False}
        body.pop("timeout")
        if without := self._bound["without"]:
            # an older state of what was refused since may still be there
            asked = {"must": [body["query"]], "must_not": [{"terms": {"id": without}}]}
            body["query"] = {"bool": asked}
        with opensearch.translated(self._settings, "a golden query"):
            answer: dict[str, Any] = self._client.search(
                index=self._index,
                body=body,
                params={"allow_partial_search_results": "false", "request_timeout": ANSWER_SECONDS},
            )
        return answer

    def _sample(self, seed: str) -> list[Known]:
        with self._connection.cursor(row_factory=class_row(Known)) as cursor:
            return cursor.execute(SAMPLED.encode(), self._bound | {"seed": seed, "size": SAMPLE}).fetchall()
