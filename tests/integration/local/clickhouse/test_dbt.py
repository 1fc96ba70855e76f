"""dbt-clickhouse builds a project on the endpoint with its http driver."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from bilten_orchestration.local.clickhouse.process import EndpointProcess
from tests.integration.local.clickhouse.conftest import ETL, Http

MODELS = {
    "as_table.sql": "{{ config(materialized='table', order_by='id') }} select id, name, amount from {{ ref('people') }}",  # noqa: E501
    "as_view.sql": "{{ config(materialized='view') }} select name, amount * 2 as twice from {{ ref('as_table') }}",  # noqa: E501
    "by_key.sql": """
        {{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='id', order_by='id') }}
        select id, name, {{ var('amount', 1) }} as amount from {{ ref('people') }}
        {% if is_incremental() %} where id >= 2 {% endif %}
        """,  # noqa: E501
    "by_partition.sql": """
        {{ config(materialized='incremental', incremental_strategy='insert_overwrite', partition_by='id', order_by='name') }}
        select id, name, {{ var('amount', 1) }} as amount from {{ ref('people') }}
        {% if is_incremental() %} where id = 3 {% endif %}
        """,  # noqa: E501
    "schema.yml": """
        version: 2
        models:
          - name: as_table
            config: {contract: {enforced: true}}
            columns:
              - {name: id, data_type: Int32, data_tests: [unique, not_null]}
              - {name: name, data_type: String, data_tests: [{accepted_values: {arguments: {values: [ann, bob, eve]}}}]}
              - {name: amount, data_type: Float32}
        unit_tests:
          - name: doubles
            model: as_view
            given: [{input: ref('as_table'), rows: [{id: 1, name: x, amount: 4}]}]
            expect: {rows: [{name: x, twice: 8}]}
        """,  # noqa: E501
}


@pytest.fixture
def project(tmp_path: Path, endpoint: EndpointProcess) -> Path:
    (tmp_path / "dbt_project.yml").write_text(
        "name: probe\nversion: '1.0'\nprofile: probe\nflags: {send_anonymous_usage_stats: false}\n"
        "seeds: {probe: {people: {+column_types: {id: Int32, amount: Float32}}}}\n"
    )
    (tmp_path / "profiles.yml").write_text(
        dedent(
            f"""
            probe:
              target: here
              outputs:
                here: {{type: clickhouse, driver: http, host: {endpoint.config.host}, port: {endpoint.config.port},
                       user: {ETL[0]}, password: "{{{{ env_var('PROBE_PASSWORD') }}}}", schema: dbt_probe, threads: 4,
                       use_lw_deletes: true}}
            """  # noqa: E501
        )
    )
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "people.csv").write_text("id,name,amount\n1,ann,1.5\n2,bob,2.5\n3,eve,3.5\n")
    (tmp_path / "models").mkdir()
    for name, text in MODELS.items():
        (tmp_path / "models" / name).write_text(dedent(text))
    return tmp_path


def dbt(project: Path, *arguments: str) -> str:
    program = Path(sys.executable).with_name("dbt")
    outcome = subprocess.run(
        [program, "--no-use-colors", *arguments, "--project-dir", project, "--profiles-dir", project],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        cwd=project,
        env=os.environ | {"PROBE_PASSWORD": ETL[1], "DO_NOT_TRACK": "1"},
    )
    assert outcome.returncode == 0, outcome.stdout[-4000:] + outcome.stderr[-2000:]
    return outcome.stdout


def test_a_project_builds_twice(project: Path, http_client: Http) -> None:
    first = dbt(project, "build")
    assert "ERROR=0" in first
    assert "WARN=0" in first
    assert http_client.run(
        "SELECT groupArray((name, twice)) FROM (SELECT * FROM dbt_probe.as_view ORDER BY name)"
    ) == ("[('ann',3),('bob',5),('eve',7)]")
    second = dbt(project, "build", "--vars", "{amount: 9}")
    assert "ERROR=0" in second
    for table, amounts in (("by_key", "[1,9,9]"), ("by_partition", "[1,1,9]")):
        assert (
            http_client.run(f"SELECT groupArray(amount) FROM (SELECT * FROM dbt_probe.{table} ORDER BY id)")
            == amounts
        )
    assert (
        http_client.run(
            "SELECT count() FROM system.tables WHERE database = 'dbt_probe' AND name LIKE '%\\_\\_dbt%'"
        )
        == "0"
    )
