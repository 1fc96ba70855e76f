"""`bilten backup` and `bilten restore`, as people and programs call them."""

from __future__ import annotations

from bilten_orchestration.backups.repository import keys
from bilten_orchestration.backups.repository.opened import key_file
from tests.integration.backups.command import Environment, bilten, document
from tests.integration.backups.shop import Shop


def test_from_nothing_to_a_restored_directory(shop: Shop, environment: Environment) -> None:
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


def test_what_goes_wrong_has_its_exit_code(shop: Shop, environment: Environment) -> None:
    assert bilten(shop, environment, "backup", "create", "mysql").returncode == 2
    assert bilten(shop, environment, "backup", "create", "postgres", "--kind", "half").returncode == 2
    away = bilten(shop, environment, "backup", "create", "postgres", "--json", BILTEN_POSTGRES__PORT="1")
    assert away.returncode == 3
    assert document(away)["problems"][0]["next"]
    keys.ensure(key_file(shop.settings))
    missing = bilten(shop, environment, "backup", "verify", "no-such-backup", "--json")
    assert missing.returncode == 1
    assert "there is no backup" in document(missing)["problems"][0]["what"]
