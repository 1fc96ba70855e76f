"""The fixtures of other tests that are needed here too."""

from tests.integration.backups.wal.conftest import source  # noqa: F401
from tests.integration.drills.postgres.conftest import shop  # noqa: F401
from tests.integration.recovery.conftest import platform  # noqa: F401
