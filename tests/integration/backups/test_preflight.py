"""What is asked of a server before its first backup."""

from __future__ import annotations

import json

from bilten_orchestration.backups.preflight import examine
from bilten_orchestration.local import postgres as embedded
from tests.integration.backups.command import Environment, bilten
from tests.integration.backups.shop import Shop


def test_the_embedded_server_meets_all_of_it(shop: Shop, environment: Environment) -> None:
    report = examine(shop.settings, "postgres")
    assert report.problems == ()
    assert len(report.requirements) >= 10
    found = bilten(shop, environment, "backup", "preflight", "postgres")
    assert found.returncode == 0
    assert max(map(len, found.stdout.splitlines())) <= 80


def test_what_is_missing_is_named_with_what_mends_it(shop: Shop, environment: Environment) -> None:
    with embedded.superuser(shop.server.cluster) as connection:
        connection.execute("alter role bilten_owner noreplication")
        connection.execute("alter system set summarize_wal = off")
        connection.execute("alter system set max_slot_wal_keep_size = -1")
        connection.execute("select pg_reload_conf()")
    found = bilten(shop, environment, "backup", "preflight", "postgres", "--json")
    assert found.returncode == 1
    problems = {each["what"].partition(":")[0]: each["next"] for each in json.loads(found.stdout)["problems"]}
    assert set(problems) == {
        "bilten_owner may not take backups",
        "replication connections",
        "max_slot_wal_keep_size",
        "summarize_wal",
    }
    assert problems["summarize_wal"].startswith("alter system set summarize_wal = on")
