"""Types of both sides: one counterpart each, or a refusal."""

from __future__ import annotations

import pytest

from bilten_orchestration.ingestion import encoding
from bilten_orchestration.ingestion.schema import Column


@pytest.mark.parametrize(
    ("postgres_type", "clickhouse_type"),
    [
        ("uuid", "UUID"),
        ("numeric(18,3)", "Decimal(18, 3)"),
        ("character varying(255)", "String"),
        ("character(3)", "String"),
        ("timestamp with time zone", "DateTime64(6, 'UTC')"),
        ("text[]", "Array(String)"),
        ("jsonb", "String"),
        ("boolean", "Bool"),
    ],
)
def test_counterparts(postgres_type: str, clickhouse_type: str) -> None:
    found = encoding.encoding_of(postgres_type, is_enum=False)
    assert found is not None
    assert found.clickhouse_type == clickhouse_type


@pytest.mark.parametrize(
    "postgres_type", ["numeric", "point", "interval", "integer[]", "time without time zone"]
)
def test_no_exact_counterpart(postgres_type: str) -> None:
    assert encoding.encoding_of(postgres_type, is_enum=False) is None


def test_an_enum_is_text() -> None:
    found = encoding.encoding_of("payments.payment_status", is_enum=True)
    assert found is not None
    assert found.clickhouse_type == "String"


@pytest.mark.parametrize(
    ("clickhouse_type", "base"),
    [
        ("LowCardinality(Nullable(String))", ("String", True)),
        ("Nullable(DateTime64(6, 'UTC'))", ("DateTime64(6, 'UTC')", True)),
        ("LowCardinality(String)", ("String", False)),
        ("Array(Nullable(String))", ("Array(Nullable(String))", False)),
    ],
)
def test_base_types(clickhouse_type: str, base: tuple[str, bool]) -> None:
    assert encoding.base_type(clickhouse_type) == base


def test_an_array_is_never_nullable_in_clickhouse() -> None:
    texts = encoding.encoding_of("text[]", is_enum=False)
    assert texts is not None
    assert Column("tags", "t.tags", texts, nullable=True).clickhouse_type == "Array(String)"
