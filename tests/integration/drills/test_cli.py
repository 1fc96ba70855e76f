"""`bilten drill`, as people and programs call it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bilten_orchestration.backups.copies.copy import copy
from bilten_orchestration.backups.redis.dump import take
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.retention.prune import prune
from bilten_orchestration.drills import listing
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.object_store import connect
from tests.integration.backups.command import bilten, document

Environment = Callable[[Settings], dict[str, str]]
FIELDS = {"id", "store", "way", "at", "ok", "rpo_seconds", "rto_seconds", "phases"}


@dataclass
class Shop:
    settings: Settings


def test_run_list_verify_and_what_verify_finds(here: Settings, environment: Environment) -> None:
    shop = Shop(here)
    take(here)
    ran = bilten(shop, environment, "drill", "run", "redis", "--json")
    assert ran.returncode == 0, ran.stderr
    (drill,) = document(ran)["result"]["drills"]
    assert drill["ok"] is True
    assert "MB/s =" in drill["projection"]["formula"]
    people = bilten(shop, environment, "drill", "run", "redis", "--no-cache")
    assert people.returncode == 0
    assert people.stdout.startswith("redis server: passed\n")
    assert max(map(len, people.stdout.splitlines())) <= 80
    assert bilten(shop, environment, "drill", "run", "all", "--way", "server").returncode == 2

    listed = bilten(shop, environment, "drill", "list", "--store", "redis", "--json")
    assert listed.returncode == 0
    drills = document(listed)["result"]["drills"]
    assert [each["ok"] for each in drills] == [True, True]
    assert all(set(each) >= FIELDS for each in drills)

    copy(here)
    verified = bilten(shop, environment, "drill", "list", "--verify")
    assert verified.returncode == 0, verified.stderr
    assert "2 drills: every link of the series holds" in verified.stdout
    assert max(map(len, verified.stdout.splitlines())) <= 80
    assert listing.listed(here, "redis", whole=True, bucket="copy").problems == ()
    assert not [line for line in prune(here, execute=True, by="a test").lines if line.action != "keep"]

    # the end is cut off: no link is missing, and the mark of the backup tells; the second bucket as well
    client = connect(here.object_store)
    repository = Repository(client, here.object_store.bucket_backups)
    names = [each.name for each in repository.list("drills/redis/")]
    body = repository.read_small(names[-1])
    repository.remove(names[-1])
    cut = bilten(shop, environment, "drill", "list", "--verify", "--json")
    assert cut.returncode == 1
    told = [problem["what"] for problem in document(cut)["problems"]]
    assert len(told) == 2
    assert "its drill is not attested" in told[0]
    assert told[1] == f"{names[-1]} is in {here.object_store.bucket_backups_copy} alone"
    repository.write_small(names[-1], body.replace(b'"ok": true', b'"ok": null'))
    (forged,) = listing.listed(here, "redis").problems
    assert "damaged or was altered" in forged.what
    client.close()
