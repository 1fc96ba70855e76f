"""The one entry point of the code location: merges the definitions of each domain, holds no logic.

Loading needs the settings and dbt's manifest, no store; engines and clients are imported when a run
needs them.
"""

from __future__ import annotations

import dagster as dg

from bilten_orchestration.backups import defs as backups
from bilten_orchestration.drills import defs as drills
from bilten_orchestration.ingestion import defs as ingestion
from bilten_orchestration.metrics import defs as metrics
from bilten_orchestration.observability.queries import defs as queries
from bilten_orchestration.observability.runs import defs as runs
from bilten_orchestration.partitions import defs as partitions
from bilten_orchestration.search import defs as search
from bilten_orchestration.settings import Settings
from bilten_orchestration.settings.loading import load_settings
from bilten_orchestration.stores.resources import Platform


def assemble(settings: Settings) -> dg.Definitions:
    return dg.Definitions.merge(
        backups.definitions(),
        drills.definitions(settings),
        ingestion.definitions(),
        metrics.definitions(settings),
        partitions.definitions(),
        queries.definitions(),
        runs.definitions(),
        search.definitions(settings),
        # a process per step costs 3.5 CPU-seconds, and no step here gains from one
        dg.Definitions(resources={"platform": Platform(settings)}, executor=dg.in_process_executor),
    )


@dg.definitions
def definitions() -> dg.Definitions:
    return assemble(load_settings())
