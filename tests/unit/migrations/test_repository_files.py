"""The migrations that this repository ships."""

from __future__ import annotations

import re

import pytest

from bilten_orchestration.migrations.files import STORES, discover
from bilten_orchestration.migrations.statements import Store

MIGRATIONS = [migration for store in STORES for migration in discover()[store]]


@pytest.mark.parametrize("store", STORES)
def test_versions_run_from_one_without_a_gap(store: Store) -> None:
    versions = [migration.version for migration in discover()[store]]
    assert versions == list(range(1, len(versions) + 1))
    assert versions


@pytest.mark.parametrize("migration", MIGRATIONS, ids=lambda m: m.label)
def test_each_says_what_it_is_for_and_takes_back_something(migration) -> None:  # type: ignore[no-untyped-def]
    assert migration.description
    assert migration.down.statements


@pytest.mark.parametrize("migration", MIGRATIONS, ids=lambda m: m.label)
def test_none_holds_a_secret(migration) -> None:  # type: ignore[no-untyped-def]
    secret = re.compile(
        r"\b(?:password|identified\s+(?:by|with))\b\s*'|\bpassword\s+'|://[^/\s:]+:[^@\s]+@", re.IGNORECASE
    )
    for script in (migration.up, migration.down):
        for statement in script.statements:
            assert not secret.search(statement.text), statement.title
