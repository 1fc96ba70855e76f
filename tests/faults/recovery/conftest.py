"""Fixtures of tests/integration that are needed here too."""

from tests.integration.backups.wal.conftest import module_source  # noqa: F401
from tests.integration.recovery.conftest import platform  # noqa: F401
