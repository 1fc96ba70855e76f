"""Every setting of the platform, as one typed tree.

Three layers, the later one wins: the default written here, `stack.env` in the state directory
(what the embedded stack wrote about the servers it started: addresses and generated secrets, in
the same BILTEN_* names, readable by the owner alone), the environment. So nothing outside `local/`
knows whether a store is embedded, and an outside deployment is reached by variables alone.

Nested by two underscores: BILTEN_POSTGRES__HOST is `settings.postgres.host`. An empty variable is
an unset one. Frozen; all problems are reported at once; an unknown BILTEN_ variable is refused with
the nearest known name. Each domain has its section in a module of its name, the stores stand together;
`loading` reads the tree, `reference` makes docs/settings.md from it.
"""

from bilten_orchestration.settings.backups import BackupSettings
from bilten_orchestration.settings.dagster import DagsterSettings
from bilten_orchestration.settings.drills import DrillSettings
from bilten_orchestration.settings.ingestion import IngestionSettings
from bilten_orchestration.settings.metrics import MetricsSettings
from bilten_orchestration.settings.observability import AlertSettings, ServeSettings
from bilten_orchestration.settings.partitions import PartitionSettings
from bilten_orchestration.settings.queries import QuerySettings
from bilten_orchestration.settings.recovery import RecoverySettings
from bilten_orchestration.settings.search import SearchSettings
from bilten_orchestration.settings.section import Section
from bilten_orchestration.settings.stores import (
    ClickHouseSettings,
    ObjectStoreSettings,
    OpenSearchSettings,
    PostgresSettings,
    RedisSettings,
)
from bilten_orchestration.settings.tree import ADDRESSES, CHECKOUT, PREFIX, Settings

__all__ = [
    "ADDRESSES",
    "CHECKOUT",
    "PREFIX",
    "AlertSettings",
    "BackupSettings",
    "ClickHouseSettings",
    "DagsterSettings",
    "DrillSettings",
    "IngestionSettings",
    "MetricsSettings",
    "ObjectStoreSettings",
    "OpenSearchSettings",
    "PartitionSettings",
    "PostgresSettings",
    "QuerySettings",
    "RecoverySettings",
    "RedisSettings",
    "SearchSettings",
    "Section",
    "ServeSettings",
    "Settings",
]
