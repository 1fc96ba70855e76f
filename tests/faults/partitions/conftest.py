"""The fixtures of tests/integration/partitions that are needed here too."""

from tests.integration.partitions.conftest import database, owner, shelf  # noqa: F401
