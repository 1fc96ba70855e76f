"""`bilten sql` as a process of its own, against a real server."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from io import StringIO
from typing import Any

import pytest

from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.clickhouse import connect
from tests.waiting import until

COMMAND = [sys.executable, "-c", "from bilten_orchestration.cli.main import main; main()", "sql"]
TYPED = (
    "select 1 as n, toDecimal64(1.1, 3) as money, [toDecimal64(2.5, 1)] as amounts,"
    " 0.5 as ratio, null as nothing, 'ä' as text"
)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def variables(settings: Settings, environment: Callable[[Settings], Mapping[str, str]]) -> dict[str, str]:
    return {**environment(settings), "PYTHONPATH": os.getcwd()}


@pytest.fixture
def run(variables: dict[str, str]) -> Run:
    def call(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *arguments],
            env=variables,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done

    return call


def test_a_table_within_80_columns(run: Run) -> None:
    done = run("select 'x' as name, repeat('long ', 100) as text")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.rstrip().endswith("1 row")


def test_many_columns_become_one_line_each(run: Run) -> None:
    done = run("select " + ", ".join(f"{number} as column_{number}" for number in range(20)))
    assert "column_19  19" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_json_keeps_digits_and_types(run: Run) -> None:
    (row,) = json.loads(run(TYPED, "--format", "json").stdout)
    assert row == {"n": 1, "money": "1.100", "amounts": ["2.5"], "ratio": 0.5, "nothing": None, "text": "ä"}


def test_csv_keeps_digits(run: Run) -> None:
    names, row = csv.reader(StringIO(run(TYPED, "--format", "csv").stdout))
    assert names == ["n", "money", "amounts", "ratio", "nothing", "text"]
    assert row == ["1", "1.100", '["2.5"]', "0.5", "", "ä"]


def test_one_document(run: Run) -> None:
    document = json.loads(
        run("select number from numbers(5)", "--json", "--limit", "2", "--role", "etl").stdout
    )
    assert document["ok"] is True
    assert document["result"] == {
        "columns": [{"name": "number", "type": "UInt64"}],
        "rows": [{"number": 0}, {"number": 1}],
        "more": True,
    }


def test_the_limit_says_that_there_is_more(run: Run) -> None:
    done = run("select number from system.numbers", "--role", "etl", "--limit", "3")  # never ends by itself
    assert done.returncode == 0
    assert "3 rows, and more" in done.stdout


def test_leaving_ends_the_statement_on_the_server(run: Run, settings: Settings) -> None:
    run("select number as left_alone from system.numbers", "--role", "etl", "--limit", "3")
    client = connect(settings.clickhouse)
    query = (
        "select count() from system.processes"
        " where query like '%left_alone%' and query not like '%system.processes%'"
    )
    until(lambda: not client.query(query).first_row[0], "the end of the statement", 30)


def test_the_statement_may_come_from_stdin(run: Run) -> None:
    assert json.loads(run("-", "--format", "json", stdin="select 7 as n;\n").stdout) == [{"n": 7}]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("selec 1",), 2, "Syntax error"),
        (("select 1 format CSV",), 2, "--format"),
        ((" ",), 2, "no statement"),
        (("select nothing from analytics.events",), 2, "nothing"),
        (("insert into analytics.events_rejected (row_hash) values (1)",), 1, "analyst"),
        (("select * from bilten_raw.payments_payments",), 1, "--role etl"),
        (("select * from file('/etc/passwd', 'LineAsString')",), 1, "analyst"),
        (
            ("select throwIf(number = 900000) from numbers(1000000)", "--role", "etl", "--format", "csv"),
            1,
            "throwIf",
        ),
        (("select 1 as a, 1 as a", "--format", "json"), 2, "same name"),
        (("select 1", "--format", "xml"), 2, "xml"),
    ],
)
def test_what_goes_wrong_is_told_without_a_traceback(
    run: Run, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr


def test_errors_are_problems_in_json(run: Run) -> None:
    done = run("select * from bilten_raw.payments_payments", "--json")
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 1
    assert document["ok"] is False
    assert document["problems"][0]["next"]


def test_engineers_write(run: Run, settings: Settings) -> None:
    done = run("insert into analytics.events_rejected (reason, row_hash) values ('x', 5)", "--role", "etl")
    assert (done.returncode, done.stdout.strip()) == (0, "done")
    assert connect(settings.clickhouse).query(
        "select row_hash from analytics.events_rejected"
    ).result_rows == [(5,)]


def test_no_server_is_a_problem_to_be_tried_again(run: Run, variables: dict[str, str]) -> None:
    variables["BILTEN_CLICKHOUSE__PORT"] = "1"
    done = run("select 1")
    assert done.returncode == 3
    assert "bilten up" in done.stderr


def test_a_reader_that_has_enough(variables: dict[str, str]) -> None:
    process = subprocess.Popen(
        [*COMMAND, "select number from system.numbers", "--role", "etl", "--format", "csv"],
        env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"number\n"
    process.stdout.close()
    assert process.wait(60) == 141
    assert b"Traceback" not in process.stderr.read()
