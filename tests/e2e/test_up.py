"""`bilten up` as a user calls it: from nothing to numbers, again, after kills, beside another one.

One stack for the module, in a directory and on ports of its own. Its demo data are small.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import psutil
import psycopg
import psycopg.sql
import pytest

from bilten_orchestration.local import dagster_services, endpoints, postgres, privileges, stack_env
from bilten_orchestration.local import processes as own_processes
from bilten_orchestration.local.up import COLUMNS, PHASES
from bilten_orchestration.settings import CHECKOUT, Settings
from bilten_orchestration.settings.loading import as_environment, load_settings
from bilten_orchestration.stores import clickhouse as clickhouse_store
from bilten_orchestration.stores import object_store
from bilten_orchestration.stores import opensearch as opensearch_store
from bilten_orchestration.stores import postgres as postgres_store
from bilten_orchestration.stores import redis as redis_store
from tests import bare_machine, processes
from tests.conftest import Servers
from tests.stack import make_base, opensearch_jars
from tests.waiting import until

SCALE = "0.02"
PROGRAMS = {
    "postgres",
    "clickhouse",
    "redis",
    "object-store",
    "opensearch",
    "dagster-code",
    "dagster-webserver",
    "dagster-daemon",
    "wal",
    "watchdog",
}

NOBODY = "127.0.0.1:9"  # of discard, where nobody listens


LAUNCH = """mutation ($job: String!, $tags: [ExecutionTag!]) { launchRun(executionParams: {
    mode: "default", runConfigData: {}, executionMetadata: {tags: $tags},
    selector: {repositoryLocationName: "bilten", repositoryName: "__repository__", jobName: $job}
}) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
TERMINATE = """mutation ($run: String!) { terminateRun(runId: $run) {
    __typename ... on TerminateRunFailure { message } ... on PythonError { message }
} }"""
FAILURES = """query ($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events {
    ... on ExecutionStepFailureEvent { error { message } } } } } }"""
STATUS = "query ($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
JOBS = "{ repositoriesOrError { ... on RepositoryConnection { nodes { jobs { name } } } } }"
ASSETS = """{ assetNodes { assetKey { path } isExecutable isPartitioned
    assetMaterializations(limit: 1) { runId metadataEntries { __typename label } } } }"""
CHECKS = """{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks { checks {
    name executionForLatestMaterialization { status } } } } } }"""
SLOTS = """{ instance { concurrencyLimit(concurrencyKey: "postgres_backup") { claimedSlots { runId } } } }"""


class Stack:
    """A state directory, and `bilten` called on it by a child process."""

    def __init__(
        self,
        home: Path,
        user: privileges.ServerUser | None = None,
        umask: int = 0o022,
        *,
        search: bool = False,
    ) -> None:
        self.since = datetime.now(UTC).date()
        self.home = home
        self.user = user
        self.umask = umask
        self.search = search
        self.programs = PROGRAMS if search else PROGRAMS - {"opensearch"}
        self.own = {"BILTEN_HOME": str(home), "BILTEN_OPENSEARCH__ENABLED": str(search).lower()}
        self.first: subprocess.CompletedProcess[str] | None = None

    def needs_search(self) -> None:
        if not self.search:
            pytest.skip("OpenSearch could not be downloaded")

    def run(
        self, *arguments: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BILTEN_")}
        result = subprocess.run(
            [sys.executable, "-m", "bilten_orchestration.cli.main", *arguments],
            env=inherited | self.own | {"PYTHONPATH": str(CHECKOUT)} | environment,
            umask=self.umask,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            **({"user": self.user.uid, "group": self.user.gid, "extra_groups": []} if self.user else {}),
        )
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result

    def typed(self, command: str) -> str:
        """What a shell answers to this, in the checkout."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BILTEN_")}
        result = subprocess.run(
            ["/bin/sh", "-ec", command],
            cwd=CHECKOUT,
            env=inherited | self.own,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def up(self, *arguments: str, **environment: str) -> dict[str, Any]:
        document = json.loads(self.run("up", "--json", "--scale", SCALE, *arguments, **environment).stdout)
        assert document["ok"] is True
        return dict(document["result"])

    def status(self) -> dict[str, dict[str, Any]]:
        document = json.loads(self.run("status", "--json", check=False).stdout)
        return {program["name"]: program for program in document["result"]["programs"]}

    def graphql(self, query: str, **variables: object) -> dict[str, Any]:
        """What Dagster's webserver answers, as its UI asks it."""
        port = self.status()["dagster-webserver"]["where"].rsplit(":", 1)[1]
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)
        assert "errors" not in found, found["errors"]
        return dict(found["data"])

    def secrets(self) -> list[str]:
        lines = (self.home / "stack.env").read_text().splitlines()
        pairs = [line.split("=", 1) for line in lines if "=" in line]
        return [value for name, value in pairs if name.endswith(("PASSWORD", "KEY", "KEY_ID", "TOKEN"))]


def held(stack: Stack, patch: pytest.MonkeyPatch) -> dict[str, object]:
    """What every server of it holds, a key and an object of ours among that."""
    with patch.context() as environment:
        environment.setenv("BILTEN_HOME", str(stack.home))
        settings = load_settings()
    found: dict[str, object] = {}
    with postgres_store.connect(settings.postgres) as connection:
        found["payments"] = connection.execute(
            "select count(*), sum(amount) from payments.payments"
        ).fetchone()
    with postgres_store.connect(settings.postgres, "dagster") as connection:
        ended = "select array_agg(run_id order by id) from runs where status = 'SUCCESS' and id <= 3"
        found["runs"] = connection.execute(ended).fetchone()
    client = clickhouse_store.connect(settings.clickhouse)
    found["raw"] = client.query(
        "select count(), sum(amount) from bilten_raw.payments_payments final"
    ).result_rows
    client.close()
    cache = redis_store.connect(settings.redis)
    cache.set("kept by the test", "a key", nx=True)
    found["key"] = cache.get("kept by the test")
    cache.close()
    bucket = object_store.connect(settings.object_store)
    place = {"Bucket": settings.object_store.bucket_assets, "Key": "kept by the test"}
    if not bucket.list_objects_v2(Bucket=place["Bucket"], Prefix=place["Key"]).get("KeyCount"):
        bucket.put_object(**place, Body=b"an object")
    found["object"] = bucket.get_object(**place)["Body"].read()
    bucket.close()
    engine = opensearch_store.connect(settings.opensearch)
    found["documents"] = engine.count(index="events_index")["count"]
    engine.close()
    return found


def too_wide(text: str) -> list[str]:
    """Lines that do not fit; an address that is longer than that stays whole."""
    lines = text.splitlines()
    return [line for line in lines if len(line) > COLUMNS and max(map(len, line.split())) < COLUMNS - 20]


@pytest.fixture(scope="module")
def running() -> Iterator[Stack]:
    # a test run that was killed cannot stop its supervisord; the next one does
    base = make_base(
        "bilten-e2e-", before_removal=lambda old: Stack(old / ".bilten").run("down", check=False)
    )
    try:
        jars = opensearch_jars(base)
    except pytest.skip.Exception:  # where there is no Maven repository the rest is tested
        stack = Stack(base / ".bilten")
    else:
        stack = Stack(base / ".bilten", search=True)  # the only one: a node takes half a gigabyte
        shutil.copytree(jars, stack.home / "jars" / jars.name)
    try:
        stack.first = stack.run("up", "--scale", SCALE, PATH=bare_machine.path(base / "bare"))
        yield stack
    finally:
        stack.run("down", check=False)
        shutil.rmtree(base, ignore_errors=True)


def test_an_up_right_after_the_first_tells_no_program_as_started(running: Stack) -> None:
    """Dagster's services count as starting for 15 s; the first up of this module ends within them or not."""
    before = running.status()
    psutil.Process(before["dagster-code"]["pid"]).kill()
    while (now := running.status()["dagster-code"])["pid"] in (None, before["dagster-code"]["pid"]):
        time.sleep(0.1)
    assert now["state"] == "STARTING"
    (servers,) = (phase for phase in running.up()["phases"] if phase["name"] == "servers")
    assert not servers["changed"]
    assert servers["outcome"] in ("still starting: dagster-code", "all were running")
    assert running.status()["dagster-code"]["pid"] == now["pid"]


def test_everything_answers(running: Stack) -> None:
    programs = running.status()
    assert set(programs) == running.programs
    assert [name for name, program in programs.items() if not program["ok"]] == []
    idle = sum(program["memory_bytes"] for program in programs.values())
    print(f"memory of the stack: {idle / (1 << 20):.0f} MiB")
    assert idle < 3.5 * (1 << 30)


def test_the_first_up_tells_what_it_does_and_what_to_try(running: Stack) -> None:
    assert running.first is not None
    said, told = running.first.stdout, running.first.stderr
    phases = re.split(r"^\[\d/8\] ", told, flags=re.MULTILINE)[1:]
    assert [phase.partition("\n")[0] for phase in phases] == list(PHASES)
    at_once = {"settings", "dagster"} | (set() if running.search else {"search"})
    for phase in phases:
        name, _, lines = phase.partition("\n")
        assert re.search(r"\(\d+\.\d s\)$", lines.rstrip()), phase
        # what takes a while says something before it is done
        assert name in at_once or len(lines.splitlines()) > 1, phase
    recorded = endpoints.recorded_ports(stack_env.read(running.home / "stack.env"))
    assert set(recorded) == running.programs - {"dagster-daemon", "wal"}
    assert [name for name, port in recorded.items() if not re.search(rf":{port}\n", said)] == []
    assert f"credentials   {running.home / 'stack.env'}\n" in said
    assert [secret for secret in running.secrets() if secret in said + told] == []
    assert too_wide(said + told) == []

    tries: dict[str, str] = {}
    for line in said.partition(" things to try\n")[2].splitlines():
        if line.startswith("    "):
            tries[name] += f"{line}\n"
        elif line:
            tries[name := line.strip()] = ""
    assert f"{'Four' if running.search else 'Three'} things to try\n" in said
    page, sales, *people, clients = tries.values()
    assert len(people) == running.search
    with urllib.request.urlopen(page.strip(), timeout=60) as answer:
        assert "Dagster" in answer.read().decode()
    assert re.search(r"20\d\d-\d\d-\d\d\W+[A-Z]{3}\W+\d+\.\d\d", running.typed(sales)), running.typed(sales)
    for typed in people:
        assert re.search(r"^\d+ events? in \d+ ms", running.typed(typed), re.MULTILINE), running.typed(typed)
    # the answer of the shell that has read them
    assert running.typed(f"{clients}\necho is $PGHOST:$PGPORT") == f"is 127.0.0.1:{recorded['postgres']}\n"


def test_every_process_is_of_a_package(running: Stack) -> None:
    """None of a database program, a Java or anything else that the machine may have; `up` itself has found
    none of them, on the PATH that it was first called with."""
    outside = privileges.outside_directory(running.home)
    ours = [Path(place).resolve() for place in (CHECKOUT, sys.prefix, sys.base_prefix, running.home, outside)]
    found = {}
    for process in own_processes.of_stack(running.home):
        with contextlib.suppress(psutil.Error, OSError):
            found[process.pid] = Path(process.exe()).resolve()
    assert {program["pid"] for program in running.status().values()} <= set(found)
    assert [exe for exe in found.values() if not any(map(exe.is_relative_to, ours))] == []


def test_numbers_are_there_and_dagster_shows_the_graph(running: Stack) -> None:
    shown = running.graphql(
        """{
            repositoriesOrError { ... on RepositoryConnection { nodes { assetNodes { id } } } }
            assetNodeOrError(assetKey: {path: ["marts", "fct_event_sales_daily"]}) {
                ... on AssetNode { partitionStats { numMaterialized numFailed } }
            }
        }"""
    )
    assert len(shown["repositoriesOrError"]["nodes"][0]["assetNodes"]) > 20
    built = shown["assetNodeOrError"]["partitionStats"]
    midnights = (datetime.now(UTC).date() - running.since).days  # a schedule builds the day that ended
    assert built["numMaterialized"] in range(30, 30 + midnights + 1)
    assert built["numFailed"] == 0
    told = [
        (
            node["assetKey"]["path"][-1],
            check["name"],
            (check["executionForLatestMaterialization"] or {}).get("status"),
        )
        for node in running.graphql(CHECKS)["assetNodes"]
        for check in node["assetChecksOrError"].get("checks", [])
    ]
    assert len(told) > 100
    assert [check for check in told if check[2] == "SKIPPED"] == [], "what a run plans to examine it examines"
    result = running.run(
        "sql",
        "--format",
        "json",
        "select count() as n, uniqExact(metric_date) as days from marts.fct_event_sales_daily",
    )
    assert '"n"' in result.stdout


def test_events_are_found(running: Stack) -> None:
    running.needs_search()

    def found(*asked: str) -> dict[str, Any]:
        return dict(json.loads(running.run("search", "query", "--json", *asked).stdout)["result"])

    everything = found()
    assert everything["total"] > 0
    known = everything["hits"][0]
    again = found(f'"{known["title"]}"', "--organizer", known["organizer_id"], "--size", "100")
    assert known["id"] in {hit["id"] for hit in again["hits"]}


def test_a_backup_that_is_terminated_in_the_ui(running: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through Dagster's own services. PostgreSQL's checkpointer stands still meanwhile, so that pg_basebackup
    waits for the server, and would for ever."""
    monkeypatch.setenv("BILTEN_HOME", str(running.home))
    settings = load_settings()

    def listed() -> set[str]:
        found = json.loads(running.run("backup", "list", "--json", check=False).stdout)
        return {backup["id"] for backup in found["result"]["backups"]}

    def launched() -> str:
        answer = running.graphql(LAUNCH, job="postgres_full_backup")["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def status(run: str) -> str:
        return str(running.graphql(STATUS, run=run)["runOrError"]["status"])

    def ended(run: str) -> str:
        until(
            lambda: status(run) in ("SUCCESS", "FAILURE", "CANCELED"), f"the end of run {run}", 300, every=1
        )
        return status(run)

    def pg_basebackups() -> list[psutil.Process]:
        return processes.clients_of(settings.postgres, "pg_basebackup")

    def waiting() -> object:
        with postgres_store.connect(settings.postgres) as connection:
            return connection.execute(
                "select true from pg_stat_activity where backend_type = 'walsender'"
                " and application_name like '%-postgres-full-%' and wait_event = 'CheckpointStart'"
            ).fetchone()

    before = listed()
    checkpointer = processes.checkpointer(settings.postgres)
    checkpointer.suspend()
    try:
        run = launched()
        until(waiting, "pg_basebackup waits for a checkpoint", 300)
        (program,) = pg_basebackups()
        worker = program.parent()
        assert worker is not None
        answer = running.graphql(TERMINATE, run=run)["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer
        assert ended(run) == "CANCELED"
        for process in (program, worker):
            until(lambda process=process: not processes.runs(process.pid), f"the end of {process}")  # type: ignore[misc]
        assert pg_basebackups() == []
    finally:
        checkpointer.resume()
    assert listed() == before
    slots = running.graphql(SLOTS)["instance"]["concurrencyLimit"]["claimedSlots"]
    assert [slot for slot in slots if slot["runId"] == run] == []
    assert ended(launched()) == "SUCCESS"
    (made,) = {backup for backup in listed() - before if "-postgres-full-" in backup}
    assert json.loads(running.run("backup", "verify", made, "--json").stdout)["ok"] is True


@pytest.mark.faults
def test_every_asset_leaves_numbers_when_it_runs(running: Stack) -> None:
    """Every job, on Dagster's own services; those that build on what others leave come later."""
    day = [{"key": "dagster/partition", "value": f"{datetime.now(UTC):%F}"}]
    (repository,) = running.graphql(JOBS)["repositoriesOrError"]["nodes"]
    # days of marts were built by `up`; the job of all assets is nobody's
    jobs = {job["name"] for job in repository["jobs"]} - {"__ASSET_JOB"}
    jobs -= {name for name in jobs if name.startswith("metrics_")}
    full = {"postgres_full_backup", "clickhouse_full_backup", "redis_full_backup", "ingestion"}
    drills = {name for name in jobs if name.endswith("_drill")}
    last = {"backup_copies", "backup_retention", "run_retention", "drill_promises"}
    assert jobs >= full | last
    assert len(drills) == 3 + running.search
    for some, tags in ((full, []), (jobs - full - drills - last, []), (drills, day), (last, [])):
        launched = {}
        for job in sorted(some):
            answer = running.graphql(LAUNCH, job=job, tags=tags)["launchRun"]
            assert answer["__typename"] == "LaunchRunSuccess", answer
            launched[job] = str(answer["run"]["runId"])
        ends: dict[str, str] = {}
        for job, run in launched.items():

            def ended(run: str = run) -> bool:
                found = running.graphql(STATUS, run=run)["runOrError"]["status"]
                return str(found) in ("SUCCESS", "FAILURE", "CANCELED")

            until(ended, f"the end of {job}", 900, every=1)
            ends[job] = running.graphql(STATUS, run=run)["runOrError"]["status"]
        assert ends == dict.fromkeys(launched, "SUCCESS")
    without = []
    for node in running.graphql(ASSETS)["assetNodes"]:
        newest = node["assetMaterializations"]
        entries = newest[0]["metadataEntries"] if newest else []
        kinds = {entry["__typename"] for entry in entries}
        if node["isExecutable"] and not kinds & {"IntMetadataEntry", "FloatMetadataEntry"}:
            without.append(("/".join(node["assetKey"]["path"]), sorted(kinds)))
    assert without == []


def test_second_up_is_fast_and_changes_nothing(running: Stack) -> None:
    before = {name: program["pid"] for name, program in running.status().items()}
    written = (running.home / "stack.env").stat().st_mtime_ns
    started = time.monotonic()
    # from another shell than the first one
    report = running.up(
        PATH=f"/nowhere:{os.environ['PATH']}",
        TMPDIR="/var/tmp",
        LANG="de_DE.UTF-8",
        TZ="Asia/Kathmandu",
        PGPORT="1",
        SSL_CERT_FILE="/etc/ssl/certs/another.pem",
        HTTPS_PROXY="http://proxy.invalid:3128",
        BILTEN_DAGSTER__HOST="127.0.0.1",
    )
    seconds = time.monotonic() - started
    print(f"second up: {seconds:.1f} s")
    assert seconds < 20
    assert [phase["name"] for phase in report["phases"] if phase["changed"]] == []
    assert {name: program["pid"] for name, program in running.status().items()} == before
    assert (running.home / "stack.env").stat().st_mtime_ns == written


def test_no_secret_is_in_a_log_a_configuration_or_an_argument(running: Stack) -> None:
    secrets = running.secrets()
    assert len(secrets) == 11
    readable = [
        path.read_text(errors="replace")
        for pattern in ("logs/*", "supervisord.conf", "dagster/*.yaml")
        for path in running.home.glob(pattern)
    ]
    arguments = []
    for process in psutil.process_iter(["cmdline"]):
        arguments.append(" ".join(process.info["cmdline"] or []))
    assert any(str(running.home) in line for line in arguments)
    assert [secret for secret in secrets if any(secret in text for text in readable + arguments)] == []
    for path in (
        running.home / "stack.env",
        running.home / "supervisord.conf",
        *running.home.glob("programs/*"),
    ):
        assert path.stat().st_mode & 0o077 == 0, path


def test_what_dagster_keeps_is_in_the_stores_and_holds_no_secret(running: Stack) -> None:
    """Events, run configuration and metadata in PostgreSQL; what steps print in the object store."""
    variables = json.loads(running.run("env", "--json").stdout)["result"]
    secrets = running.secrets()
    with psycopg.connect(variables["DAGSTER_POSTGRES_URL"].replace("+psycopg2", "")) as connection:
        tables = [
            name
            for (name,) in connection.execute("select tablename from pg_tables where schemaname = 'public'")
        ]
        assert {"event_logs", "runs", "job_ticks"} <= set(tables)
        for table in tables:
            count, found = connection.execute(
                psycopg.sql.SQL(
                    "select count(*), count(*) filter (where kept::text like any(%s)) from {} as kept"
                ).format(psycopg.sql.Identifier(table)),
                ([f"%{secret}%" for secret in secrets],),
            ).fetchone() or (0, 0)
            assert found == 0, table
            assert count > 0 or table not in ("event_logs", "runs")

    store = boto3.client(
        "s3",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )
    kept = store.list_objects_v2(Bucket="bilten-dagster", Prefix=dagster_services.COMPUTE_LOGS)["Contents"]
    assert any(each["Key"].endswith(".err") for each in kept), [each["Key"] for each in kept]
    for each in kept:
        text = (
            store.get_object(Bucket="bilten-dagster", Key=each["Key"])["Body"].read().decode(errors="replace")
        )
        assert not [secret for secret in secrets if secret in text], each["Key"]


@pytest.mark.faults
def test_servers_come_back_after_sigkill(running: Stack) -> None:
    before = running.status()
    for program in before.values():
        psutil.Process(program["pid"]).kill()
    report = running.up()
    assert {phase["name"] for phase in report["phases"] if phase["changed"]} <= {"servers"}
    after = running.status()
    assert [name for name, program in after.items() if not program["ok"]] == []
    assert [name for name, program in after.items() if program["pid"] == before[name]["pid"]] == []


@pytest.mark.faults
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_any_server_comes_back_by_itself_after_sigkill(
    running: Stack, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody calls `up`; it has its data, and the others are as they were."""
    if name not in running.programs:
        running.needs_search()
    before = running.status()
    kept = held(running, monkeypatch)
    psutil.Process(before[name]["pid"]).kill()

    def back() -> dict[str, Any] | None:
        found = running.status()[name]
        return found if found["ok"] and found["pid"] not in (None, before[name]["pid"]) else None

    until(back, f"{name} runs again", 180, every=0.5)
    assert held(running, monkeypatch) == kept
    others = {other: program["pid"] for other, program in running.status().items() if other != name}
    assert others == {other: program["pid"] for other, program in before.items() if other != name}


def test_everything_comes_back_after_sigkill_of_everything(
    running: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = held(running, monkeypatch)
    pids = [program["pid"] for program in running.status().values()]
    pids.append(int((running.home / "supervisord.pid").read_text()))
    pids.sort(key=lambda pid: psutil.Process(pid).ppid() != 1)  # supervisord first: it restarts what dies
    for pid in pids:
        psutil.Process(pid).kill()
    report = running.up()
    assert [phase["name"] for phase in report["phases"] if phase["changed"]] == ["servers"]
    assert all(program["ok"] for program in running.status().values())
    assert held(running, monkeypatch) == kept


@pytest.mark.faults
def test_a_killed_supervisord_leaves_no_orphan(running: Stack) -> None:
    pids = {program["pid"] for program in running.status().values()}
    psutil.Process(int((running.home / "supervisord.pid").read_text())).kill()
    running.up()
    assert [pid for pid in pids if processes.runs(pid)] == []


def tells_that_there_is_no_search(stack: Stack, report: dict[str, Any]) -> None:
    """All but search is up, whoever asks; nobody is told of an incident."""
    without = (
        f"search is off: OpenSearch could not be downloaded, not to be had from http://***@{NOBODY}/maven2"
    )
    assert report["notes"][-1].startswith(without)
    assert "set BILTEN_OPENSEARCH__MAVEN_URL" in report["notes"][-1]
    assert "opensearch" not in report["addresses"]
    assert report["phases"][-1]["outcome"] == "search is off: OpenSearch could not be downloaded"
    status = stack.run("status")  # exits with 0
    assert without in " ".join(status.stdout.replace("note", "").split())
    programs = stack.status()
    assert set(programs) == PROGRAMS - {"opensearch"}
    assert [name for name, program in programs.items() if not program["ok"]] == []
    asked = stack.run("search", "query", "jazz", check=False)
    assert asked.returncode == 3
    assert "could not be downloaded" in asked.stderr
    assert "BILTEN_OPENSEARCH__MAVEN_URL" in asked.stderr
    assert "Traceback" not in asked.stderr
    health = json.loads(stack.run("health", "--json", check=False).stdout)
    assert "search" not in json.dumps(health)
    # the mirror is of `up` alone, and its password of nobody else
    assert "secret@" not in "".join(
        path.read_text(errors="replace")
        for path in (stack.home / "stack.env", *stack.home.glob("logs/*"), *stack.home.glob("programs/*"))
    )
    again = stack.run("up", "--no-demo")
    assert "Bilten is up, and nothing was changed (" in again.stdout
    assert "Three things to try" in again.stdout
    assert without in " ".join(again.stdout.split())
    assert too_wide(again.stdout + again.stderr) == []


@pytest.mark.faults
def test_search_comes_with_the_next_up_that_gets_it_and_two_stacks_let_each_other_be(running: Stack) -> None:
    base = Path(tempfile.mkdtemp(prefix="bilten-e2e-"))
    base.chmod(0o755)
    other = Stack(base / ".bilten", search=True)
    other.own["BILTEN_OPENSEARCH__MAVEN_URL"] = f"http://me:secret@{NOBODY}/maven2"
    try:
        tells_that_there_is_no_search(other, other.up("--no-demo"))
        # what somebody starts by hand says what is missing, and nothing of where in the code
        answer = other.graphql(LAUNCH, job="search_rebuild", tags=[])["launchRun"]
        run = str(answer["run"]["runId"])
        until(
            lambda: other.graphql(STATUS, run=run)["runOrError"]["status"] in ("SUCCESS", "FAILURE"),
            "the end of the run",
            300,
            every=1,
        )
        shown = other.graphql(FAILURES, run=run)["logsForRun"]["events"]
        said = [event["error"]["message"] for event in shown if event.get("error")]
        assert said, shown
        assert all("OpenSearch could not be downloaded" in each for each in said), said
        assert not any("Traceback" in each or ".py" in each for each in said), said
        jars = opensearch_jars(base)
        shutil.copytree(jars, other.home / "jars" / jars.name)
        report = other.up("--no-demo")
        assert {phase["name"] for phase in report["phases"] if phase["changed"]} == {"servers", "search"}
        assert "opensearch" in report["addresses"]
        assert not any("search is off" in note for note in report["notes"])
        programs = other.status()
        assert set(programs) == PROGRAMS
        assert [name for name, program in programs.items() if not program["ok"]] == []
        assert " events in " in other.run("search", "query", "jazz").stdout
        # the first one goes down and up again, and the other does not notice
        running.run("down")
        running.up()
        assert {name: program["pid"] for name, program in other.status().items()} == {
            name: program["pid"] for name, program in programs.items()
        }
    finally:
        other.run("down", check=False)
        shutil.rmtree(base, ignore_errors=True)


def test_a_second_stack_beside_it(running: Stack, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = Path(tempfile.mkdtemp(prefix="bilten-e2e-"))
    base.chmod(0o755)
    # sockets cannot lie there, and nothing that is made is for others
    other = Stack(base / ("long" * 30) / ".bilten", umask=0o077, search=True)
    # nor is there a Maven repository
    other.own["BILTEN_OPENSEARCH__MAVEN_URL"] = f"http://me:secret@{NOBODY}/maven2"
    other.home.parent.mkdir()
    before = running.status()
    try:
        with socket.socket() as squatter:
            squatter.bind(("127.0.0.1", 0))
            squatter.listen()
            port = squatter.getsockname()[1]
            refused = other.run("up", "--no-demo", check=False, BILTEN_REDIS__PORT=str(port))
            assert refused.returncode == 1
            assert f"pid {os.getpid()}" in refused.stderr
            assert "BILTEN_REDIS__PORT" in refused.stderr
            document = json.loads(other.run("up", "--json", check=False, BILTEN_REDIS__PORT=str(port)).stdout)
            assert document["ok"] is False
            assert [phase["name"] for phase in document["result"]["phases"]] == ["settings"]
            assert document["result"]["failed"]["phase"] == "servers"
            assert [problem["found"].split(" (")[0] for problem in document["problems"]] == [
                f"pid {os.getpid()}"
            ]
        report = other.up("--no-demo")
        taken = {program["where"] for program in before.values()} - {""}
        assert not taken & {f"127.0.0.1:{port}" for port in report["ports"].values()}
        assert any("is taken by" in note for note in report["notes"])
        tells_that_there_is_no_search(other, report)
        assert other.run("down").returncode == 0
        assert {name: program["pid"] for name, program in running.status().items()} == {
            name: program["pid"] for name, program in before.items()
        }
        assert (other.home / "data" / "postgres" / "PG_VERSION").exists()
        assert other.run("status", check=False).returncode == 1
    finally:
        other.run("down", check=False)
        shutil.rmtree(base, ignore_errors=True)


def test_two_ups_at_once_wait_for_each_other(running: Stack) -> None:
    command = [sys.executable, "-m", "bilten_orchestration.cli.main", "up", "--json", "--scale", SCALE]
    environment = os.environ | running.own | {"PYTHONPATH": str(CHECKOUT)}
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert sum("waiting for `bilten up`, pid" in err for _, err in ends) == 1


def test_env_connects_other_clients(running: Stack) -> None:
    variables = json.loads(running.run("env", "--json").stdout)["result"]
    assert {"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "CLICKHOUSE_URL", "REDIS_URL"} <= set(
        variables
    )
    assert {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "DAGSTER_HOME", "DAGSTER_URL"} <= set(variables)
    user = privileges.server_user()
    psql = postgres.binaries(running.home, user) / "psql"
    answer = subprocess.run(
        [
            "/bin/sh",
            "-c",
            f'eval "$1"; exec {psql} -XAtc "select current_user"',
            "sh",
            running.run("env").stdout,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "bilten_owner"


def test_env_of_readers_holds_no_account_that_writes(running: Stack) -> None:
    variables = json.loads(running.run("env", "--role", "readonly", "--json").stdout)["result"]
    assert variables["PGUSER"] == "bilten_readonly"
    assert "bilten_analyst" in variables["CLICKHOUSE_URL"]
    held = [secret for secret in running.secrets() if any(secret in value for value in variables.values())]
    assert len(held) == 2, list(variables)


def test_logs_of_a_server_and_of_a_stranger(running: Stack) -> None:
    assert "database system is ready" in running.run("logs", "postgres", "-n", "5000").stdout
    unknown = running.run("logs", "mysql", check=False)
    assert unknown.returncode == 2
    assert "postgres" in unknown.stderr


def test_what_people_read_fits_80_columns(running: Stack) -> None:
    found = "select metric_date, event_id from marts.fct_event_sales_daily where paid_orders > 0 limit 1"
    day, event = running.run("sql", found, "--format", "csv").stdout.splitlines()[1].split(",")
    for command in (["up"], ["status"], ["migrate", "status"], ["explain", day, event, "gross_sales"]):
        result = running.run(*command)
        assert result.stdout + result.stderr, command
        assert too_wide(result.stdout + result.stderr) == []
        assert command != ["up"] or "Bilten is up, and nothing was changed (" in result.stdout


def test_links_name_the_host_that_people_use(running: Stack) -> None:
    shown = running.run("env", "--json", BILTEN_DAGSTER__URL="https://dagster.example.com/").stdout
    assert json.loads(shown)["result"]["DAGSTER_URL"] == "https://dagster.example.com"


def test_down_stops_only_its_own(running: Stack) -> None:
    stranger = subprocess.Popen(["sleep", "600"], env={**os.environ, "BILTEN_HOME": str(running.home)})
    try:
        pids = {name: program["pid"] for name, program in running.status().items()}
        document = json.loads(running.run("down", "--json").stdout)
        assert set(document["result"]["stopped"]) == running.programs
        assert [name for name, pid in pids.items() if processes.runs(pid)] == []
        assert stranger.poll() is None
    finally:
        stranger.send_signal(signal.SIGKILL)
        stranger.wait()
    # that an `up` finds all of it again is harder after a SIGKILL of everything, above
    assert (running.home / "data" / "postgres" / "PG_VERSION").exists()


@pytest.mark.faults
def test_up_after_down_changes_the_servers_alone(running: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    running.up()
    kept = held(running, monkeypatch)
    running.run("down")
    report = running.up()
    assert [phase["name"] for phase in report["phases"] if phase["changed"]] == ["servers"]
    assert held(running, monkeypatch) == kept


@pytest.mark.faults
def test_a_whole_outside_deployment_by_settings_alone(empty_settings: Settings, servers: Servers) -> None:
    """All four stores are somebody else's: `up` starts Dagster alone, and fills what it was pointed to."""
    database = f"dagster_{next(servers.numbers)}"
    with postgres.superuser(servers.postgres.cluster) as connection:
        connection.execute(f"create database {database} owner bilten_dagster")
    base = Path(tempfile.mkdtemp(prefix="bilten-e2e-"))
    base.chmod(0o755)
    other = Stack(base / ".bilten")
    given = as_environment(empty_settings) | {"BILTEN_POSTGRES__DAGSTER_DATABASE": database}
    del given["BILTEN_HOME"]
    try:
        refused = other.run("up", "--json", check=False, **given | {"BILTEN_REDIS__PASSWORD": "wrong"})
        document = json.loads(refused.stdout)
        assert document["result"]["failed"]["phase"] == "settings"
        assert "Traceback" not in refused.stderr
        assert [problem["next"].split(",")[0] for problem in document["problems"]] == [
            "correct BILTEN_REDIS__HOST"
        ]
        report = other.up(**given)
        assert set(report["ports"]) == {"dagster-code", "dagster-webserver", "watchdog"}
        assert report["addresses"]["postgres"] == f"127.0.0.1:{empty_settings.postgres.port}"
        secret = empty_settings.postgres.password.get_secret_value()
        assert secret not in (other.home / "stack.env").read_text()
        assert list((other.home / "data").iterdir()) == []
        with postgres_store.connect(empty_settings.postgres) as connection:
            (sold,) = connection.execute("select count(*) from payments.payments").fetchone() or (0,)
        client = clickhouse_store.connect(empty_settings.clickhouse)
        assert client.command("select count() from bilten_raw.payments_payments final") == sold > 0
        # of so few orders not each day has one
        days, rows = client.query(
            "select count(), sum(rows) from analytics.mart_days final where mart = 'fct_event_sales_daily'"
        ).first_row
        assert days == 30
        assert client.command("select count() from marts.fct_event_sales_daily") == rows > 0
        client.close()
        states = {
            program["name"]: program["state"]
            for program in json.loads(other.run("status", "--json", **given).stdout)["result"]["programs"]
        }
        assert {name for name, state in states.items() if state == "OUTSIDE"} == {
            "postgres",
            "clickhouse",
            "redis",
            "object-store",
        }
        again = other.up(**given)
        assert [phase["name"] for phase in again["phases"] if phase["changed"]] == []
    finally:
        other.run("down", check=False)
        shutil.rmtree(base, ignore_errors=True)
        servers.drop_database(database)


@pytest.mark.faults
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_as_an_ordinary_user() -> None:
    entry = pwd.getpwnam("daemon")
    somebody = privileges.ServerUser(entry.pw_name, entry.pw_uid, entry.pw_gid)
    if not all(
        privileges.reachable(path, somebody) for path in (Path(sys.executable).resolve().parent, CHECKOUT)
    ):
        pytest.skip(f"{somebody.name} can read neither the interpreter nor the checkout here")
    base = Path(tempfile.mkdtemp(prefix="bilten-e2e-"))
    os.chown(base, somebody.uid, somebody.gid)
    other = Stack(base / ".bilten", user=somebody)
    try:
        other.up("--no-demo")
        programs = other.status()
        assert all(program["ok"] for program in programs.values())
        owners = {psutil.Process(program["pid"]).uids().real for program in programs.values()}
        assert owners == {somebody.uid}
        assert other.run("down").returncode == 0
    finally:
        other.run("down", check=False)
        shutil.rmtree(base, ignore_errors=True)


@pytest.mark.faults
@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers become somebody else")
def test_as_root_in_a_home_that_only_root_may_enter(running: Stack) -> None:
    base = Path(tempfile.mkdtemp(prefix="bilten-e2e-"))  # 0700
    other = Stack(base / ".bilten")
    outside = privileges.outside_directory(other.home)
    try:
        other.up("--no-demo")
        programs = other.status()
        assert all(program["ok"] for program in programs.values())
        assert psutil.Process(programs["postgres"]["pid"]).uids().real != 0
        assert (outside / "data" / "postgres" / "PG_VERSION").exists()
    finally:
        other.run("down", check=False)
        shutil.rmtree(base, ignore_errors=True)
        shutil.rmtree(outside, ignore_errors=True)
