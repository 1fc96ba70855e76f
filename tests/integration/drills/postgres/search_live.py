"""A shop whose events are searched: its PostgreSQL is backed up, and an index serves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from bilten_orchestration.drills import search as drill
from bilten_orchestration.drills.report import DrillReport, Proof
from bilten_orchestration.drills.run import run
from bilten_orchestration.search import definition, golden
from bilten_orchestration.search.delta import delta
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import opensearch
from tests.conftest import Servers
from tests.integration.backups.wal.conftest import Source
from tests.integration.search.conftest import forget_indices
from tests.integration.search.shopfront import Shopfront, owner, rebuild

EVENTS = 300
#: Golden questions of each kind: those of a rebuild take longer than all the rest on so few events.
FEW = {"EXACT": 1, "KNOWN": 4}
#: Of production's PostgreSQL: everything that search keeps there.
_KEPT = (
    "select to_jsonb(t)::text from system.search_state t",
    "select to_jsonb(t)::text from system.search_indices t order by index_name",
    "select to_jsonb(t)::text from system.search_swaps t order by id",
    "select to_jsonb(t)::text from system.search_ranges t order by index_name, number",
    "select to_jsonb(t)::text from system.search_dead_letters t order by id",
    "select to_jsonb(t)::text from system.sync_state t order by consumer",
    "select last_value::text from system.batch_number",
)


@dataclass
class Searched:
    shop: Source
    settings: Settings
    front: Shopfront
    live: str

    def kept(self) -> list[Any]:
        """What production keeps of search, and where the alias is."""
        with closing(opensearch.connect(self.settings.opensearch)) as client:
            alias = client.indices.get_alias(name=definition.ALIAS)
        return [alias, *(self.shop.execute(statement) for statement in _KEPT)]

    def of_drills(self) -> list[str]:
        """Indices that a drill has made."""
        with closing(opensearch.connect(self.settings.opensearch)) as client:
            return sorted(client.indices.get(index=f"{drill.PREFIX}*"))

    def drilled(self, told: list[str] | None = None) -> tuple[DrillReport, dict[str, Proof]]:
        """Whatever becomes of it, nothing of production's search is another one, and nothing stays."""
        before = self.kept()
        (report,) = run(self.settings, "search", progress=(told if told is not None else []).append)
        assert self.kept() == before
        assert self.of_drills() == []
        assert not (self.settings.home / "drill-search").exists()
        return report, {proof.name: proof for proof in report.proofs}

    def shipped(self) -> None:
        """Until all that was committed so far comes back."""
        self.shop.await_reach(self.shop.now())


@contextmanager
def searched(shop: Source, servers: Servers) -> Iterator[Searched]:
    small = shop.settings.search.model_copy(update={"range_documents": 100, "lag_seconds": 30.0})
    settings = shop.settings.model_copy(update={"opensearch": servers.opensearch, "search": small})
    forget_indices(settings)
    with owner(settings) as connection, pytest.MonkeyPatch.context() as few:
        for name, value in FEW.items():
            few.setattr(golden, name, value)
        front = Shopfront(connection, settings).open(EVENTS)
        live = rebuild(settings).index
        front.edit(1, 60)
        delta(settings)
        made = Searched(shop, settings, front, live)
        made.shipped()
        yield made
    forget_indices(settings)
