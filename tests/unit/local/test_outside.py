"""What is made of an analyst's grants, in the words of a server's SHOW GRANTS FINAL."""

from __future__ import annotations

import pytest

from bilten_orchestration.local.outside import grant_problems

ENOUGH = [f"GRANT SELECT ON {database}.* TO bilten_analyst" for database in ("staging", "marts", "analytics")]


@pytest.mark.parametrize(
    "more",
    [
        "GRANT SELECT ON information_schema.* TO bilten_analyst",
        "GRANT SHOW TABLES, SHOW COLUMNS, SELECT ON marts.* TO bilten_analyst",
        "GRANT SELECT(a, b), SHOW ON marts.fct TO bilten_analyst",
        "GRANT SELECT ON system.functions TO bilten_analyst",
        "REVOKE SELECT ON marts.secret FROM bilten_analyst",
    ],
)
def test_reading_is_enough_and_no_more_is_harmless(more: str) -> None:
    assert grant_problems("bilten_analyst", ENOUGH) == []
    assert grant_problems("bilten_analyst", [*ENOUGH, more]) == []


@pytest.mark.parametrize(
    ("more", "revoke"),
    [
        ("GRANT INSERT ON marts.* TO bilten_analyst", "insert on marts.*"),
        (
            "GRANT SELECT, ALTER UPDATE(a, b) ON marts.fct TO bilten_analyst",
            "select, alter update(a, b) on marts.fct",
        ),
        ("GRANT FILE ON *.* TO bilten_analyst", "file on *.*"),
        ("GRANT READ ON URL TO bilten_analyst", "read on URL"),
        ("GRANT READ, WRITE ON S3 TO bilten_analyst", "read, write on S3"),
        ("GRANT REMOTE ON *.* TO bilten_analyst", "remote on *.*"),
        ("GRANT CREATE TEMPORARY TABLE ON *.* TO bilten_analyst", "create temporary table on *.*"),
        ("GRANT SELECT ON bilten_raw.* TO bilten_analyst", "select on bilten_raw.*"),
        ("GRANT SELECT ON marts*.* TO bilten_analyst", "select on marts*.*"),
        ("GRANT SELECT ON system.* TO bilten_analyst", "select on system.*"),
        ("GRANT SELECT ON system.query_log TO bilten_analyst", "select on system.query_log"),
        ("GRANT SELECT ON marts.* TO bilten_analyst WITH GRANT OPTION", "select on marts.*"),
        ("GRANT SHOW ACCESS ON *.* TO bilten_analyst", "show access on *.*"),
        ("GRANT accountants TO bilten_analyst", "it"),
        ("something new", "it"),
    ],
)
def test_what_is_not_known_to_be_harmless_is_told(more: str, revoke: str) -> None:
    (problem,) = grant_problems("bilten_analyst", [*ENOUGH, more])
    assert problem.found == more
    assert f"revoke {revoke} from bilten_analyst" in problem.next


def test_all_problems_are_told_at_once() -> None:
    found = grant_problems("a", [ENOUGH[0], "GRANT FILE ON *.* TO a", "GRANT INSERT ON staging.* TO a"])
    assert [problem.next for problem in found] == [
        "as an administrator: revoke file on *.* from a, or from the role that brings it",
        "as an administrator: revoke insert on staging.* from a, or from the role that brings it",
        "as an administrator: grant select on analytics.* to a",
        "as an administrator: grant select on marts.* to a",
    ]


def test_all_rights_are_too_many_and_not_too_few() -> None:
    (problem,) = grant_problems("a", ["GRANT ALL ON *.* TO a WITH GRANT OPTION"])
    assert problem.next.startswith("as an administrator: revoke all on *.* from a")
