"""A server that is away is told by what the system said, and by nothing of the request."""

from __future__ import annotations

import socket

import pytest

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.settings import ClickHouseSettings
from bilten_orchestration.stores import clickhouse


def test_what_the_system_said() -> None:
    with socket.socket() as unused:  # bound and not listening: nobody else gets the port meanwhile
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(StoreUnavailable) as raised:
            clickhouse.connect(ClickHouseSettings(host="127.0.0.1", port=port))
    [problem] = raised.value.problems
    assert problem.what == f"ClickHouse at 127.0.0.1:{port} does not answer"
    assert problem.found == "[Errno 111] Connection refused"
