"""`bilten backup` and `bilten restore`, as people and programs call them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from bilten_orchestration.backups import keys
from bilten_orchestration.backups.opened import key_file
from bilten_orchestration.settings import Settings
from tests.integration.backups.test_postgres import Shop, shop  # noqa: F401 (a fixture)

Environment = Callable[[Settings], dict[str, str]]


class HasSettings(Protocol):
    @property
    def settings(self) -> Settings: ...


def bilten(
    shop: HasSettings,  # noqa: F811
    environment: Environment,
    *arguments: str,
    **changed: str,
) -> subprocess.CompletedProcess[str]:
    found = subprocess.run(
        [sys.executable, "-m", "bilten_orchestration.cli.main", *arguments],
        env=environment(shop.settings)
        | {"PYTHONPATH": str(Path(__file__).parents[3]), "COLUMNS": "80"}
        | changed,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in found.stdout + found.stderr
    for secret in (shop.settings.postgres.password, shop.settings.object_store.secret_access_key):
        assert secret.get_secret_value() not in found.stdout + found.stderr
    return found


def document(found: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(found.stdout)


def test_from_nothing_to_a_restored_directory(shop: Shop, environment: Environment) -> None:  # noqa: F811
    empty = bilten(shop, environment, "backup", "list")
    assert empty.returncode == 1
    assert "there is no key file" in empty.stderr

    taken = bilten(shop, environment, "backup", "create", "postgres", "--json")
    assert taken.returncode == 0, taken.stderr
    assert f"making {key_file(shop.settings)}" in taken.stderr
    backup = document(taken)["result"]["backup"]

    listed = bilten(shop, environment, "backup", "list", "--json")
    assert document(listed)["result"]["backups"] == [backup]
    assert set(backup) >= {"id", "store", "kind", "parent", "state", "started_at", "finished_at"}
    shown = bilten(shop, environment, "backup", "list")
    assert backup["id"] in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80

    of_store = bilten(shop, environment, "backup", "list", "--store", "postgres", "--json")
    assert document(of_store)["result"]["backups"] == [backup]
    assert bilten(shop, environment, "backup", "list", "--store", "mysql").returncode == 2

    verified = bilten(shop, environment, "backup", "verify", backup["id"])
    assert verified.returncode == 0
    assert "objects are whole" in verified.stdout

    target = shop.base / "restored"
    restored = bilten(
        shop, environment, "restore", "postgres", "--backup", backup["id"], "--to", str(target), "--json"
    )
    assert restored.returncode == 0, restored.stderr
    assert document(restored)["result"]["backup_id"] == backup["id"]
    assert (target / "PG_VERSION").read_text() == "18\n"


def test_what_goes_wrong_has_its_exit_code(shop: Shop, environment: Environment) -> None:  # noqa: F811
    assert bilten(shop, environment, "backup", "create", "mysql").returncode == 2
    assert bilten(shop, environment, "backup", "create", "postgres", "--kind", "half").returncode == 2
    away = bilten(shop, environment, "backup", "create", "postgres", "--json", BILTEN_POSTGRES__PORT="1")
    assert away.returncode == 3
    assert document(away)["problems"][0]["next"]
    keys.ensure(key_file(shop.settings))
    missing = bilten(shop, environment, "backup", "verify", "no-such-backup", "--json")
    assert missing.returncode == 1
    assert "there is no backup" in document(missing)["problems"][0]["what"]
