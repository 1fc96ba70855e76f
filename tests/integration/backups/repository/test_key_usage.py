"""`bilten backup keys`: what is under which key, and what is lost."""

from __future__ import annotations

import json

from bilten_orchestration.backups.repository import keys
from bilten_orchestration.backups.repository.key_usage import examine
from bilten_orchestration.backups.repository.opened import key_file
from tests.integration.backups.command import Environment, bilten
from tests.integration.backups.depot import Depot
from tests.integration.backups.shop import Shop


def test_rotated_and_lost(depot: Depot) -> None:
    first = depot.add()
    before = key_file(depot.settings).read_bytes()
    report = examine(depot.settings, rotate=True)
    assert report.rotated
    new = next(each for each in report.keys if each.state == "current")
    second = depot.add()
    assert second.key_id == new.id != first.key_id
    report = examine(depot.settings)
    assert {each.id: (each.state, each.backups, each.stored_bytes) for each in report.keys} == {
        first.key_id: ("kept", 1, 2000),
        new.id: ("current", 1, 2000),
    }
    assert (report.lost, report.problems) == ((), ())

    key_file(depot.settings).write_bytes(before)  # an old copy of the file
    report = examine(depot.settings)
    assert report.lost == (second.id,)
    assert {each.id: (each.state, each.backups) for each in report.keys} == {
        first.key_id: ("current", 1),
        new.id: ("lost", 1),
    }
    (problem,) = report.problems
    assert second.id in problem.what
    assert new.id in problem.what


def test_the_command_shows_no_key(shop: Shop, environment: Environment) -> None:
    depot = Depot(shop.settings)
    depot.add()
    done = bilten(shop, environment, "backup", "keys", "--rotate")
    assert done.returncode == 0, done.stderr
    assert "copy the file to where you keep it" in done.stdout
    document = json.loads(bilten(shop, environment, "backup", "keys", "--json").stdout)
    assert [each["backups"] for each in document["result"]["keys"]].count(1) == 1
    ring = keys.read(key_file(shop.settings))
    for key in ring.keys.values():
        assert key.hex() not in done.stdout + done.stderr + json.dumps(document)
    key_file(shop.settings).unlink()
    keys.ensure(key_file(shop.settings))
    lost = bilten(shop, environment, "backup", "keys")
    assert lost.returncode == 1
    assert "lost: 1 backups" in lost.stdout
    listed = bilten(shop, environment, "backup", "list")
    assert listed.returncode == 1
    assert "which is not in the key file" in listed.stderr
