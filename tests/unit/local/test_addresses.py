"""Which host a link names, and which one our own requests go to."""

from __future__ import annotations

import socket

import pytest

from bilten_orchestration.local import addresses
from bilten_orchestration.settings import DagsterSettings, PostgresSettings, Settings


@pytest.mark.parametrize(
    ("given", "asked", "shown"),
    [
        ({}, "http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ({"host": "10.1.2.3", "port": 80}, "http://10.1.2.3:80", "http://10.1.2.3:80"),
        ({"host": "0.0.0.0"}, "http://127.0.0.1:3000", f"http://{socket.gethostname()}:3000"),
        ({"host": "::"}, "http://[::1]:3000", f"http://{socket.gethostname()}:3000"),
        ({"url": "https://d.example.com/"}, "http://127.0.0.1:3000", "https://d.example.com"),
    ],
)
def test_dagster(given: dict[str, object], asked: str, shown: str) -> None:
    settings = Settings(dagster=DagsterSettings.model_validate(given))
    assert addresses.webserver(settings) == addresses.Webserver(asked, shown)


def test_stores_without_an_address_are_left_out() -> None:
    settings = Settings(postgres=PostgresSettings(host="db.example.com"))
    assert addresses.of_stores(settings) == {"postgres": "db.example.com:5432"}
