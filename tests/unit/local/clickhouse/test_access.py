"""The analyst's rules on parse trees, without an engine."""

from __future__ import annotations

from typing import Any

import pytest

from bilten_orchestration.local.clickhouse.access import Functions, Judgement, check_setting, check_settings
from bilten_orchestration.local.clickhouse.engine import EngineError

FUNCTIONS = Functions(
    [
        ("sum", True, True, "", "Aggregate Functions", "System"),
        ("uniq", True, False, "", "Aggregate Functions", "System"),
        ("plus", False, False, "", "Arithmetic", "System"),
        ("in", False, False, "", "Comparison", "System"),
        ("lower", False, True, "", "String", "System"),
        ("lcase", False, True, "lower", "", "System"),
        ("file", False, True, "", "Other", "System"),
        ("sneaky", False, False, "", "Arithmetic", "SQLUserDefined"),
    ],
    ["If", "State", "Merge", "Array", "Distinct"],
)


@pytest.mark.parametrize(
    "name", ["sum", "SUM", "sumIf", "uniqStateIf", "sumArrayIf", "plus", "lower", "LOWER", "lcase"]
)
def test_functions_that_compute_are_allowed(name: str) -> None:
    assert FUNCTIONS.allow(name)


@pytest.mark.parametrize(
    "name", ["file", "FILE", "fileIf", "plusIf", "Plus", "sneaky", "If", "", "nosuch", "sumNosuch"]
)
def test_others_are_not(name: str) -> None:
    assert not FUNCTIONS.allow(name)


def select(**parts: Any) -> dict[str, Any]:
    return {
        "type": "SelectWithUnionQuery",
        "list_of_selects": {"type": "ExpressionList", "children": [{"type": "SelectQuery", **parts}]},
    }


def table(*parts: str) -> dict[str, Any]:
    return {
        "type": "TableExpression",
        "database_and_table_name": {
            "type": "TableIdentifier",
            "name": ".".join(parts),
            "name_parts": list(parts),
        },
    }


def judge(tree: dict[str, Any], database: str = "default") -> Judgement:
    judgement = Judgement(FUNCTIONS, database)
    judgement.root(tree)
    return judgement


def test_a_valid_base() -> None:
    judge(select(tables=table("marts", "m")))


@pytest.mark.parametrize(
    "tree",
    [
        select(tables=table("bilten_raw", "t")),
        select(tables=table("system", "query_log")),
        select(tables=table("a", "b", "c")),
        select(tables={"type": "TableExpression", "table_function": {"type": "Function", "name": "plus"}}),
        select(tables={"type": "TableExpression", "stream_settings": {"type": "StreamSettings"}}),
        select(new_clause={"type": "NodeOfALaterVersion"}),
        select(where={"type": "QueryParameter", "param_type": "Identifier", "name": "x"}),
        select(tables={"type": "TableIdentifier", "name": "", "children": [{"type": "QueryParameter"}]}),
        {**select(), "out_file": {"type": "Literal", "value": {"value": "x"}}},
        {"type": "InsertQuery"},
        {"type": "ExplainQuery", "kind": "EXPLAIN TABLE OVERRIDE", "query": select()},
        {"type": "ExplainQuery", "kind": "EXPLAIN", "query": {"type": "InsertQuery"}},
        {"type": "ShowTablesQuery", "clusters": True},
        {"type": "ShowTablesQuery", "from": {"type": "Identifier", "name": "bilten_raw"}},
        {"type": "ShowColumnsQuery", "database": "bilten_raw", "table": "t"},
    ],
)
def test_one_change_one_refusal(tree: dict[str, Any]) -> None:
    with pytest.raises(EngineError) as raised:
        judge(tree)
    assert raised.value.code == 497


def test_settings_of_the_statement_come_back_or_are_refused() -> None:
    change = {
        "type": "SetQuery",
        "changes": [{"name": "max_threads", "value": {"field_type": "UInt64", "value": 1}}],
    }
    assert judge(select(settings=change)).settings == {"max_threads": "1"}
    change["changes"][0]["name"] = "allow_ddl"  # type: ignore[index]
    with pytest.raises(EngineError):
        judge(select(settings=change))


@pytest.mark.parametrize(
    "name", ["format_schema", "format_template_row", "dialect", "max_memory_usage", "user_scripts_path", ""]
)
def test_dangerous_settings(name: str) -> None:
    with pytest.raises(EngineError):
        check_setting(name)


def test_databases_of_the_url() -> None:
    check_settings({}, "marts")
    check_settings({}, "")
    with pytest.raises(EngineError):
        check_settings({}, "bilten_raw")
