"""The fixtures of tests/integration/backups that are needed here too."""

from tests.integration.backups.conftest import buckets, depot, shop  # noqa: F401
from tests.integration.backups.redis.conftest import cache, writer  # noqa: F401
from tests.integration.backups.wal.conftest import source, streaming  # noqa: F401
