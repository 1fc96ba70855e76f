"""The fixtures of tests/integration/search that are needed here too."""

from tests.integration.search.conftest import front, search  # noqa: F401
