"""The fixture of tests/integration/recovery that is needed here too."""

from tests.integration.recovery.conftest import platform  # noqa: F401
