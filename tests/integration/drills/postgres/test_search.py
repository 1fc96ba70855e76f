"""The drill of search beside live traffic: an index of its own from the PostgreSQL that comes back, compared
with the one that serves, and gone.

Here, for it begins with what the drills of PostgreSQL have.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.drills import attestation
from bilten_orchestration.drills.plan import drilled
from bilten_orchestration.drills.promises import AGREED_DOCUMENTS, judge
from bilten_orchestration.drills.run import run
from bilten_orchestration.errors import Refused
from bilten_orchestration.search.delta import delta
from bilten_orchestration.search.gates import GATES
from bilten_orchestration.settings import OpenSearchSettings
from bilten_orchestration.stores import opensearch
from tests.conftest import Servers
from tests.integration.backups.wal.conftest import Source
from tests.integration.drills.postgres.search_live import Searched, searched

AS_LIVE = "documents are those of the live index"
WATERMARK = "cluster.routing.allocation.disk.watermark"
# nothing is blocked by these, and no new index would fit
FULL = {f"{WATERMARK}.low": "1pb", f"{WATERMARK}.high": "2b", f"{WATERMARK}.flood_stage": "1b"}


@pytest.fixture(scope="module")
def served(shop: Source, servers: Servers) -> Iterator[Searched]:
    with searched(shop, servers) as made:
        yield made


def test_an_index_is_built_proven_compared_and_gone(served: Searched) -> None:
    # behind what is stored by now: some of it follows, some of it does not
    served.front.edit(61, 120)
    delta(served.settings)
    served.front.edit(121, 150)
    told: list[str] = []
    report, proofs = served.drilled(told)
    assert report.ok, report.problems
    assert {f"gate {gate.__name__}" for gate in GATES} - proofs.keys() == {"gate size"}
    agreed = proofs[AS_LIVE]
    assert (agreed.ok, agreed.warns) == (True, False), agreed
    compared, left_out = report.figures[AGREED_DOCUMENTS], report.figures["documents_changed_since"]
    assert compared >= 0.5 * report.counts["documents"]
    assert left_out <= 90
    assert report.rto_seconds is not None
    assert report.rto_seconds >= report.phases["load"] + report.phases["first_query"]
    assert {
        "room",
        "find",
        "download",
        "start",
        "load",
        "first_query",
        "proof",
        "agree",
    } <= report.phases.keys()
    assert report.rpo_seconds is not None
    assert report.backups
    assert report.restored_bytes > 1 << 20
    assert any(line.startswith("removing drill-events-") for line in told)

    with Opened.of(served.settings, new=False) as opened:
        series = attestation.read(opened.repository, opened.ring, "search")
        marks = [
            mark.details.get(attestation.DRILL)
            for backup in catalogue.read(opened.repository, opened.ring, "postgres").backups
            for mark in backup.marks
        ]
    assert series.problems == ()
    assert [each.report for each in series.drills] == [report]
    assert report.id not in marks, "what PostgreSQL's backups are worth is said by its own drills"
    assert served.shop.execute("select store, ok from system.restore_drills where store = 'search'") == [
        ("search", True)
    ]
    promises = judge("search", [report], served.settings.drills, report.finished_at)
    assert [each.name for each in promises if not each.kept] == []


def test_too_little_disk_is_refused_before_anything_comes_back(served: Searched) -> None:
    with closing(opensearch.connect(served.settings.opensearch)) as client:
        client.cluster.put_settings(body={"transient": FULL})
        try:
            report, _ = served.drilled()
        finally:
            client.cluster.put_settings(body={"transient": dict.fromkeys(FULL)})
    assert (report.ok, report.failed_phase) == (False, "room")
    (problem,) = report.problems
    assert problem.what == "OpenSearch has too little disk for a drill of search"
    assert "fetch" not in report.phases
    assert report.backups == ()


def test_where_search_is_off_it_is_left_out_and_refused(served: Searched) -> None:
    off = served.settings.model_copy(update={"opensearch": OpenSearchSettings(enabled=False)})
    assert drilled(off) == ("postgres", "clickhouse", "redis")
    with pytest.raises(Refused, match="search is off"):
        run(off, "search")
