"""A drill of search: kill -9 in each phase, and what was planted in the index that serves.

Whatever becomes of a drill, the alias, the live index and what PostgreSQL keeps of search are as they were.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing

import pytest

from bilten_orchestration.drills.outcome import KILLED
from bilten_orchestration.drills.report import DrillReport, Proof
from bilten_orchestration.drills.run import run
from bilten_orchestration.progress import Progress
from bilten_orchestration.search import definition, golden, loading
from bilten_orchestration.stores import opensearch
from tests.conftest import Servers
from tests.integration.backups.wal.conftest import Source
from tests.integration.drills.postgres.search_live import Searched, searched
from tests.integration.search.shopfront import rebuild
from tests.kills import killed_when_told
from tests.waiting import until

pytestmark = pytest.mark.faults
AS_LIVE = "documents are those of the live index"


@pytest.fixture(scope="module")
def served(shop: Source, servers: Servers) -> Iterator[Searched]:
    with searched(shop, servers) as made:
        yield made


def _killed(served: Searched, said: str) -> None:
    def drill(tell: Progress) -> None:
        loading.TELL_SECONDS, golden.EXACT, golden.KNOWN = 0, 1, 4
        run(served.settings, "search", progress=tell)

    killed_when_told(drill, re.escape(said))


@pytest.mark.parametrize(
    ("said", "made"),
    [
        ("starting, replaying", False),
        ("building drill-events-", True),
        ("loaded 2 of", True),
        ("gate content", True),
        ("comparing with", True),
    ],
)
def test_a_kill_leaves_the_live_index_alone_and_the_next_drill_cleans_up(
    served: Searched, said: str, made: bool
) -> None:
    before = served.kept()
    _killed(served, said)
    assert served.kept() == before
    left = served.of_drills()
    assert len(left) == made
    until(
        lambda: (
            not served.shop.execute(
                "select 1 from pg_locks l join pg_stat_activity a using (pid)"
                " where l.locktype = 'advisory' and a.application_name = 'bilten lock'"
            )
        ),
        "the sessions of the killed one to end",
    )
    told: list[str] = []
    report, _ = served.drilled(told)
    assert report.ok, report.problems
    assert any("which a `bilten drill run search` that was killed left" in line for line in told)
    assert [f"removing {name}, an index of a drill" in told for name in left] == [True] * made
    rows = served.shop.execute(
        "select ok, problems::text from system.restore_drills where store = 'search'"
        " order by started_at desc limit 2"
    )
    assert [ok for ok, _ in rows] == [True, False]
    assert "did not come to its end" in rows[1][1], KILLED


def test_documents_that_were_planted_lost_and_altered_by_hand_are_found(served: Searched) -> None:
    with closing(opensearch.connect(served.settings.opensearch)) as client:
        hits = client.search(index=served.live, body={"size": 2, "sort": [{"id": "asc"}]})["hits"]["hits"]
        (one, two) = hits
        client.index(
            index=served.live, id=one["_id"], body=one["_source"] | {"title": "by hand"}, refresh=True
        )
        client.delete(index=served.live, id=two["_id"], refresh=True)
        stranger = "ffffffff-0000-4000-8000-000000000000"
        client.index(index=served.live, id=stranger, body=one["_source"] | {"id": stranger}, refresh=True)
        report, proofs = served.drilled()
    assert (report.ok, report.failed_phase) == (False, "proof")
    assert [problem.what for problem in report.problems] == [f"not proven: {AS_LIVE}"]
    found = proofs[AS_LIVE].found
    assert found.startswith("3 of them differ: ")
    for name, state in ((one["_id"], "changed"), (two["_id"], "missing"), (stranger, "extra")):
        assert f"{name} {state}" in found
    assert all(proof.ok for name, proof in proofs.items() if name.startswith("gate "))


def _warned(served: Searched) -> tuple[DrillReport, Proof]:
    report, proofs = served.drilled()
    assert report.ok, report.problems
    proof = proofs[AS_LIVE]
    assert (proof.ok, proof.warns) == (False, True)
    return report, proof


def test_what_cannot_be_compared_warns(served: Searched) -> None:
    """In the order of their damage: an index that is too new, one that was made otherwise, none."""
    served.shop.stream.stop()
    new = rebuild(served.settings).index
    try:
        _, proof = _warned(served)
        assert proof.found == f"the restored PostgreSQL does not remember {new}"
    finally:
        served.shop.stream.start()
    served.shipped()
    with closing(opensearch.connect(served.settings.opensearch)) as client:
        client.indices.put_mapping(index=new, body={"properties": {"by_hand": {"type": "keyword"}}})
        _, proof = _warned(served)
        assert proof.found == f"{new} was made by another definition"
        client.indices.delete_alias(index=new, name=definition.ALIAS)
        report, proofs = _without_alias(served)
        client.indices.put_alias(index=new, name=definition.ALIAS)
    assert report.ok, report.problems
    assert proofs[AS_LIVE].found == f"{definition.ALIAS} does not exist"


def _without_alias(served: Searched) -> tuple[DrillReport, dict[str, Proof]]:
    from bilten_orchestration.drills.run import run

    (report,) = run(served.settings, "search")
    assert served.of_drills() == []
    return report, {proof.name: proof for proof in report.proofs}
