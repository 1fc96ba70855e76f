"""Default deny for analysts: what they need works, and every way around that we know of is refused."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bilten_orchestration.local.clickhouse import access, statement
from tests.integration.local.clickhouse.conftest import Http, Reply

ALLOWED = {
    # as Superset's dialect asks
    "exists with a format": ("EXISTS TABLE `marts`.`m`\n FORMAT TSV", "1"),
    "exists view with a format": ("EXISTS VIEW staging.v FORMAT CSV", "1"),
    "through a view over raw": ("SELECT a FROM staging.v", "7"),
    "mart": ("SELECT count(), sum(a) FROM marts.m", "10\t45"),
    "from first": ("FROM marts.m SELECT max(a)", "9"),
    "cte": ("WITH x AS (SELECT a FROM marts.m) SELECT count() FROM x", "10"),
    "recursive cte": (
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT sum(n) FROM r",
        "6",
    ),
    "in subquery": ("SELECT count() FROM marts.m WHERE a IN (SELECT a FROM staging.v)", "1"),
    "in table": ("SELECT count() FROM marts.m WHERE a IN staging.v", "1"),
    "in cte": ("WITH s AS (SELECT a FROM staging.v) SELECT count() FROM marts.m WHERE a IN s", "1"),
    "in tuple": ("SELECT count() FROM marts.m WHERE a IN (1, 2)", "2"),
    "join": ("SELECT count() FROM marts.m AS m JOIN staging.v AS v ON m.a = v.a", "1"),
    "window": (
        "SELECT sum(a) OVER (ORDER BY a ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS s FROM marts.m"
        " ORDER BY s DESC LIMIT 1",
        "45",
    ),
    "combinators": ("SELECT sumIf(a, a > 5), uniqExactIf(b, 1), countDistinct(a), quantilesTDigest(0.5)(a)[1] > 0 FROM marts.m", "30\t10\t10\t1"),  # noqa: E501
    "states": ("SELECT uniqMerge(s) FROM (SELECT uniqState(a) AS s FROM marts.m)", "10"),
    "apply": ("SELECT * APPLY(max) FROM marts.m", "9\t9"),
    "replace column": ("SELECT * REPLACE(a + 1 AS a) FROM marts.m ORDER BY a LIMIT 1", "1\t0"),
    "fill": ("SELECT n FROM (SELECT 1 AS n) ORDER BY n WITH FILL FROM 0 TO 2", "0\n1"),
    "allowed setting": ("SELECT count() FROM marts.m SETTINGS max_threads = 1", "10"),
    "lambda": ("SELECT arrayMap(x -> x * 2, [1, 2])", "[2,4]"),
    "case": ("SELECT CASE 2 WHEN 1 THEN 'a' ELSE 'b' END, CAST('1' AS UInt8), 1::Int8, DATE '2026-01-02'", "b\t1\t1\t2026-01-02"),  # noqa: E501
    "exists table": ("EXISTS TABLE marts.m", "1"),
    "exists": ("SELECT EXISTS(SELECT 1 FROM marts.m)", "1"),
    "show tables": ("SHOW TABLES FROM marts", "m"),
    "show tables like": ("SHOW TABLES FROM marts LIKE 'm%'", "m"),
    "show databases": ("SHOW DATABASES LIKE 'm%'", "marts"),
    "metadata": ("SELECT name FROM system.tables WHERE database = 'marts'", "m"),
    "metadata of columns": ("SELECT groupArray(name) FROM system.columns WHERE database = 'marts'", "['a','b']"),  # noqa: E501
    "information schema": (
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'm' ORDER BY ordinal_position",
        "a\nb",
    ),
    "union": ("SELECT 1 UNION ALL SELECT 1 INTERSECT SELECT 1", "1\n1"),
    "values": ("SELECT version() != ''", "1"),
    "words in literals": ("SELECT 'INTO OUTFILE; DROP TABLE x -- file()'", "INTO OUTFILE; DROP TABLE x -- file()"),  # noqa: E501
    "a statement inside a literal": (r"SELECT '\'; SELECT 2; -- '", r"\'; SELECT 2; -- "),
    "last comma": ("SELECT 1, 2,", "1\t2"),
    "last semicolon": ("SELECT 1; -- done", "1"),
}  # fmt: skip

REFUSED = {
    # tables
    "raw": "SELECT * FROM bilten_raw.t",
    "raw quoted": 'SELECT * FROM "bilten_raw"."t"',
    "raw in backticks": "SELECT * FROM `bilten_raw`.`t`",
    "raw behind a comment": "SELECT * FROM /* marts. */ bilten_raw /* x */ . /* y */ t",
    "raw behind a line comment": "SELECT * FROM -- marts.m\n bilten_raw.t",
    "raw behind a hash comment": "SELECT * FROM # marts.m\n bilten_raw.t",
    "raw by unicode escape": "SELECT * FROM `bilten\\x5fraw`.t",
    "raw in a cte": "WITH x AS (SELECT * FROM bilten_raw.t) SELECT * FROM x",
    "raw in a nested cte": "WITH y AS (WITH x AS (SELECT * FROM bilten_raw.t) SELECT * FROM x) SELECT * FROM y",  # noqa: E501
    "raw in a scalar subquery": "SELECT (SELECT secret FROM bilten_raw.t)",
    "raw in where": "SELECT 1 WHERE 1 IN (SELECT a FROM bilten_raw.t)",
    "raw in prewhere": "SELECT 1 FROM marts.m PREWHERE a IN (SELECT a FROM bilten_raw.t)",
    "raw in having": "SELECT count() FROM marts.m HAVING count() > (SELECT count() FROM bilten_raw.t)",
    "raw in qualify": "SELECT a FROM marts.m QUALIFY (SELECT count() FROM bilten_raw.t) = 1",
    "raw in order by": "SELECT a FROM marts.m ORDER BY (SELECT max(a) FROM bilten_raw.t)",
    "raw in fill": "SELECT a FROM marts.m ORDER BY a WITH FILL FROM (SELECT max(a) FROM bilten_raw.t) TO 9",
    "raw in interpolate": "SELECT a, 1 AS b FROM marts.m ORDER BY a WITH FILL INTERPOLATE (b AS (SELECT max(a) FROM bilten_raw.t))",  # noqa: E501
    "raw in group by": "SELECT 1 FROM marts.m GROUP BY (SELECT max(a) FROM bilten_raw.t)",
    "raw in limit": "SELECT a FROM marts.m LIMIT (SELECT 1 FROM bilten_raw.t)",
    "raw in limit by": "SELECT a FROM marts.m LIMIT 1 BY (SELECT 1 FROM bilten_raw.t)",
    "raw in a window": "SELECT sum(a) OVER (PARTITION BY (SELECT 1 FROM bilten_raw.t)) FROM marts.m",
    "raw in a named window": "SELECT sum(a) OVER w FROM marts.m WINDOW w AS (ORDER BY (SELECT 1 FROM bilten_raw.t))",  # noqa: E501
    "raw in array join": "SELECT x FROM marts.m ARRAY JOIN (SELECT groupArray(secret) FROM bilten_raw.t) AS x",  # noqa: E501
    "raw in a join": "SELECT * FROM marts.m AS m, bilten_raw.t AS t",
    "raw in a join condition": "SELECT 1 FROM marts.m AS m JOIN marts.m AS n ON m.a = (SELECT a FROM bilten_raw.t)",  # noqa: E501
    "raw in union": "SELECT 1 UNION ALL SELECT a FROM bilten_raw.t",
    "raw in except": "SELECT 1 EXCEPT SELECT a FROM bilten_raw.t",
    "raw in brackets": "((SELECT 1) UNION ALL (SELECT a FROM bilten_raw.t))",
    "raw in replace": "SELECT * REPLACE((SELECT max(a) FROM bilten_raw.t) AS a) FROM marts.m",
    "raw in a lambda": "SELECT arrayMap(x -> (SELECT max(a) FROM bilten_raw.t), [1])",
    "raw in apply": "SELECT * APPLY(x -> (SELECT max(a) FROM bilten_raw.t)) FROM marts.m",
    "in raw table": "SELECT 7 IN bilten_raw.t",
    "not in raw table": "SELECT 7 NOT IN bilten_raw.t",
    "global in raw table": "SELECT 7 GLOBAL IN bilten_raw.t",
    "in as a function": "SELECT in(7, bilten_raw.t)",
    "exists over raw": "SELECT EXISTS(SELECT 1 FROM bilten_raw.t)",
    "intermediate": "SELECT * FROM intermediate.x",
    "default": "SELECT * FROM default.x",
    "three parts": "SELECT * FROM a.b.c",
    "dotted database": "SELECT * FROM `marts.m`.`x`",
    "explain of raw": "EXPLAIN SELECT * FROM bilten_raw.t",
    "explain ast of raw": "EXPLAIN AST SELECT * FROM bilten_raw.t",
    "explain query tree of raw": "EXPLAIN QUERY TREE SELECT * FROM bilten_raw.t",
    "describe raw": "DESCRIBE TABLE bilten_raw.t",
    "exists raw with a format": "EXISTS TABLE bilten_raw.t FORMAT TSV",
    "show create raw with a format": "SHOW CREATE TABLE bilten_raw.t FORMAT TSV",
    "describe a subquery": "DESCRIBE (SELECT * FROM bilten_raw.t)",
    "describe a subquery and drop": "DESC (SELECT 1) PARALLEL WITH DROP TABLE marts.m",
    "describe a union with raw": "DESC (SELECT 1) UNION ALL SELECT a FROM bilten_raw.t",
    "into outfile of a description": "DESC (SELECT 1) INTO OUTFILE '/tmp/described'",
    "grants of others": "SHOW GRANTS FOR default",
    "show create raw": "SHOW CREATE TABLE bilten_raw.t",
    "show create raw view": "SHOW CREATE VIEW bilten_raw.t",
    "exists raw": "EXISTS bilten_raw.t",
    "show tables from raw": "SHOW TABLES FROM bilten_raw",
    "show tables with a filter": "SHOW TABLES FROM marts WHERE name IN (SELECT secret FROM bilten_raw.t)",
    "show columns of raw": "SHOW COLUMNS FROM t FROM bilten_raw",
    "show index of raw": "SHOW INDEX FROM bilten_raw.t",
    "check raw": "CHECK TABLE bilten_raw.t",
    "identifier parameter": "SELECT * FROM {t:Identifier}",
    # system tables
    "query log": "SELECT query FROM system.query_log",
    "stored query log": "SELECT query FROM system.query_log_store",
    "processes": "SELECT query FROM system.processes",
    "users": "SELECT * FROM system.users",
    "named collections": "SELECT * FROM system.named_collections",
    "disks": "SELECT * FROM system.disks",
    "parts": "SELECT * FROM system.parts",
    "server settings": "SELECT * FROM system.server_settings",
    "show processlist": "SHOW PROCESSLIST",
    "show grants of all": "SHOW GRANTS FOR ALL",
    "show users": "SHOW USERS",
    "show create user": "SHOW CREATE USER default",
    "show clusters": "SHOW CLUSTERS",
    "show dictionaries": "SHOW DICTIONARIES",
    # table functions
    "file": "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "file quoted": "SELECT * FROM `file`('/etc/passwd', 'LineAsString')",
    "file with a comment": "SELECT * FROM file/**/('/etc/passwd', 'LineAsString')",
    "file in a join": "SELECT * FROM marts.m AS m JOIN file('/etc/passwd', 'LineAsString') AS f ON 1",
    "file in explain": "EXPLAIN SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "file in explain estimate": "EXPLAIN ESTIMATE SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "describe file": "DESCRIBE TABLE file('/etc/passwd', 'LineAsString')",
    "file as a database": "SELECT * FROM default.`/etc/passwd`",
    "url": "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
    "s3": "SELECT * FROM s3('http://127.0.0.1:1/b/k', 'CSV')",
    "postgresql": "SELECT * FROM postgresql('127.0.0.1:5432', 'd', 't', 'u', 'p')",
    "remote": "SELECT * FROM remote('127.0.0.1', bilten_raw.t)",
    "remote with a view": "SELECT * FROM remote('127.0.0.1', view(SELECT * FROM bilten_raw.t))",
    "cluster": "SELECT * FROM cluster('default', bilten_raw.t)",
    "merge": "SELECT * FROM merge('bilten_raw', '.*')",
    "merge of regexp": "SELECT * FROM merge(REGEXP('.*'), '.*')",
    "view": "SELECT * FROM view(SELECT * FROM bilten_raw.t)",
    "view explain": "SELECT * FROM viewExplain('EXPLAIN', '', (SELECT * FROM bilten_raw.t))",
    "view if permitted": "SELECT * FROM viewIfPermitted(SELECT * FROM bilten_raw.t ELSE null('a Int'))",
    "executable": "SELECT * FROM executable('x.sh', 'CSV', 'a Int')",
    "input": "SELECT * FROM input('a Int')",
    "numbers": "SELECT * FROM numbers(3)",
    "generateRandom": "SELECT * FROM generateRandom('a Int') LIMIT 1",
    "dictionary": "SELECT * FROM dictionary('bilten_raw.d')",
    "mergeTreeIndex": "SELECT * FROM mergeTreeIndex(bilten_raw, t)",
    "sqlite": "SELECT * FROM sqlite('/etc/passwd', 't')",
    "python": "SELECT * FROM Python(x)",
    "loop": "SELECT * FROM loop(bilten_raw.t) LIMIT 1",
    "fileCluster": "SELECT * FROM fileCluster('c', '/etc/passwd', 'LineAsString')",
    "table override": "EXPLAIN TABLE OVERRIDE mysql('') COLUMNS (a Int)",
    "parametrised view": "SELECT * FROM staging.pv(x = 7)",
    "table function named like a mart": "SELECT * FROM marts.file('/etc/passwd', 'LineAsString')",
    "describe a subquery over file": "DESCRIBE (SELECT * FROM file('/etc/passwd', 'LineAsString'))",
    "exists over file": "SELECT EXISTS(SELECT 1 FROM file('/etc/passwd', 'LineAsString'))",
    "file in a scalar subquery": "SELECT (SELECT count() FROM file('/etc/passwd', 'LineAsString'))",
    "file in a cte": "WITH x AS (SELECT * FROM file('/etc/passwd', 'LineAsString')) SELECT * FROM x",
    "file in a union": "SELECT '' UNION ALL SELECT * FROM file('/etc/passwd', 'LineAsString')",
    "file in array join": (
        "SELECT l FROM marts.m"
        " ARRAY JOIN (SELECT groupArray(line) FROM file('/etc/passwd', 'LineAsString')) AS l"
    ),
    "values as a table": "SELECT * FROM values('a Int', 1)",
    "iceberg": "SELECT * FROM icebergLocal('/etc')",
    "delta": "SELECT * FROM deltaLakeLocal('/etc')",
    "mysql": "SELECT * FROM mysql('127.0.0.1:3306', 'd', 't', 'u', 'p')",
    "jdbc": "SELECT * FROM jdbc('x', 't')",
    "azure": "SELECT * FROM azureBlobStorage('x', 'c', 'b')",
    "zookeeper": "SELECT * FROM system.zookeeper WHERE path = '/'",
    "timeSeries": "SELECT * FROM timeSeriesData(bilten_raw.t)",
    # functions
    "file function": "SELECT file('/etc/passwd')",
    "file function upper case": "SELECT FILE('/etc/passwd')",
    "file function in apply": "SELECT * APPLY(file) FROM marts.m",
    "file function in an apply lambda": "SELECT * APPLY(x -> file(x)) FROM marts.m",
    "file function in a window": "SELECT sum(a) OVER (PARTITION BY file('x')) FROM marts.m",
    "file function in a filter": "SELECT count(*) FILTER (WHERE file('x') != '') FROM marts.m",
    "joinGet": "SELECT joinGet('bilten_raw.j', 'secret', 7)",
    "joinGetOrNull": "SELECT joinGetOrNull(bilten_raw.j, 'secret', 7)",
    "dictGet": "SELECT dictGet('bilten_raw.d', 'secret', 7)",
    "dictHas": "SELECT dictHas('bilten_raw.d', 7)",
    "dictGet with an identifier": "SELECT dictGetString(bilten_raw.d, 'secret', 7)",
    "hasColumnInTable": "SELECT hasColumnInTable('bilten_raw', 't', 'secret')",
    "getSetting": "SELECT getSetting('max_threads')",
    "getServerSetting": "SELECT getServerSetting('path')",
    "getMacro": "SELECT getMacro('shard')",
    "hostName": "SELECT hostName()",
    "filesystem": "SELECT filesystemAvailable()",
    "sleep": "SELECT sleep(3)",
    "introspection": "SELECT addressToLine(1)",
    "showCertificate": "SELECT showCertificate()",
    "evalMLMethod": "SELECT evalMLMethod(1, 2)",
    "unknown function": "SELECT notAFunction(1)",
    "combinator over an unsafe one": "SELECT fileIf('x', 1)",
    "aiGenerate": "SELECT aiGenerate('c', 'x')",
    # settings
    "dangerous setting": "SELECT 1 SETTINGS additional_table_filters = {}",
    "readonly off": "SELECT 1 FROM (SELECT 1 SETTINGS allow_ddl = 1)",
    "dialect": "SELECT 1 SETTINGS dialect = 'prql'",
    "explain settings": "EXPLAIN SELECT 1 SETTINGS allow_introspection_functions = 1",
    "additional result filter": "SELECT 1 SETTINGS additional_result_filter = 'file(''x'') != '''''",
    # anything that is not reading
    "insert": "INSERT INTO marts.m VALUES (1, 'x')",
    "insert select": "INSERT INTO marts.m SELECT 1, 'x'",
    "insert into function": "INSERT INTO FUNCTION file('/tmp/bilten-x', 'CSV') SELECT 1",
    "insert with": "WITH x AS (SELECT 1) INSERT INTO marts.m SELECT 1, 'x'",
    "explain insert": "EXPLAIN SYNTAX INSERT INTO marts.m SELECT 1, 'x'",
    "create": "CREATE TABLE marts.x (a Int) ENGINE = Memory",
    "create temporary": "CREATE TEMPORARY TABLE x (a Int)",
    "create view": "CREATE VIEW marts.x AS SELECT * FROM bilten_raw.t",
    "create function": "CREATE FUNCTION f AS x -> x",
    "create or replace": "CREATE OR REPLACE TABLE marts.m (a Int) ENGINE = Memory",
    "drop": "DROP TABLE marts.m",
    "truncate": "TRUNCATE TABLE marts.m",
    "alter": "ALTER TABLE marts.m DELETE WHERE 1",
    "delete": "DELETE FROM marts.m WHERE 1",
    "update": "UPDATE marts.m SET b = '' WHERE 1",
    "rename": "RENAME TABLE marts.m TO marts.n",
    "optimize": "OPTIMIZE TABLE marts.m",
    "set": "SET max_threads = 1",
    "set readonly": "SET readonly = 0",
    "set role": "SET ROLE ALL",
    "use": "USE bilten_raw",
    "system": "SYSTEM FLUSH LOGS",
    "shutdown": "SYSTEM SHUTDOWN",
    "kill": "KILL QUERY WHERE 1",
    "grant": "GRANT ALL ON *.* TO default",
    "kill mutation": "KILL MUTATION WHERE 1",
    "backup to a file": "BACKUP TABLE marts.m TO File('/tmp/bilten-backup')",
    "restore": "RESTORE TABLE bilten_raw.t FROM File('/tmp/bilten-backup')",
    "insert by format": "INSERT INTO marts.m FORMAT CSV\n1,x",
    "insert behind a comment": "/* SELECT */ INSERT INTO marts.m VALUES (1, 'x')",
    "insert into a view": "INSERT INTO staging.v VALUES (1)",
    "create dictionary": (
        "CREATE DICTIONARY marts.d (a UInt64) PRIMARY KEY a"
        " SOURCE(FILE(path '/etc/passwd' format 'CSV')) LAYOUT(FLAT()) LIFETIME(0)"
    ),
    "create named collection": "CREATE NAMED COLLECTION c AS a = 1",
    "create user": "CREATE USER u IDENTIFIED BY 'x'",
    "move partition": "ALTER TABLE marts.m DETACH PARTITION tuple()",
    "check table": "CHECK TABLE bilten_raw.t",
    "backup": "BACKUP DATABASE marts TO Disk('d', 'x')",
    "attach": "ATTACH TABLE marts.x FROM '/etc' (a Int) ENGINE = MergeTree ORDER BY a",
    "execute as": "EXECUTE AS default SELECT 1",
    "parallel with": "SELECT 1 PARALLEL WITH SELECT 2",
    "into outfile": "SELECT 1 INTO OUTFILE '/tmp/bilten-outfile'",
    "into outfile after format": "SELECT 1 FORMAT CSV INTO OUTFILE '/tmp/bilten-outfile'",
    "into outfile in comments": "SELECT 1 INTO /* */ OUTFILE '/tmp/bilten-outfile' TRUNCATE",
    "from infile": "INSERT INTO marts.m FROM INFILE '/etc/passwd' FORMAT CSV",
    "two statements": "SELECT 1; DROP TABLE marts.m",
    "two reads": "SELECT 1; SELECT 2",
    "transaction": "BEGIN TRANSACTION",
    "watch": "WATCH marts.m",
    "implicit select": "1 + 1",
    "exit": "exit",
}


# What is refused for another reason than missing rights: no such syntax, a setting, an outfile.
SYNTAX, SETTING, OUTFILE, DENIED = 62, 452, 358, 497
OTHER_CODES = {
    **dict.fromkeys(
        ("three parts", "two statements", "two reads", "watch", "implicit select", "exit"), SYNTAX
    ),
    **dict.fromkeys(
        ("dangerous setting", "readonly off", "dialect", "explain settings", "additional result filter"),
        SETTING,
    ),
    **dict.fromkeys(
        (
            "into outfile",
            "into outfile after format",
            "into outfile in comments",
            "into outfile of a description",
        ),
        OUTFILE,
    ),
}


@pytest.mark.parametrize(
    ("sql", "expected"), [pytest.param(sql, answer, id=name) for name, (sql, answer) in ALLOWED.items()]
)
def test_reading_works(analyst: Http, sql: str, expected: str) -> None:
    assert analyst.run(sql) == expected


@pytest.mark.parametrize(
    ("sql", "code"),
    [pytest.param(sql, OTHER_CODES.get(name, DENIED), id=name) for name, sql in REFUSED.items()],
)
def test_everything_else_is_refused(analyst: Http, http_client: Http, sql: str, code: int) -> None:
    reply = analyst.send(sql)
    assert reply.code == code, reply.text
    assert reply.status == {DENIED: 403, SYNTAX: 400}.get(code, 500)
    assert "hidden" not in reply.text
    assert http_client.run("SELECT count(), sum(a) FROM marts.m") == "10\t45"


def test_nothing_was_left_behind(analyst: Http, http_client: Http) -> None:
    import pathlib

    assert not pathlib.Path("/tmp/bilten-outfile").exists()
    assert not pathlib.Path("/tmp/bilten-x").exists()
    assert http_client.run("SHOW TABLES FROM marts") == "m"


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"max_threads": 1}, 0),
        ({"session_timezone": "Asia/Tokyo"}, 0),
        ({"readonly": 0}, 0),  # stays read only, whatever is asked
        ({"allow_introspection_functions": 1}, 452),
        ({"additional_table_filters": "{}"}, 452),
        ({"max_memory_usage": 0}, 452),
        ({"dialect": "prql"}, 452),
        ({"format_schema": "/etc/passwd"}, 452),
        ({"format_template_row": "/etc/passwd"}, 452),
        ({"chdb_client_name": "bilten_etl:x"}, 452),
        ({"database": "bilten_raw"}, 497),
        ({"database": "marts"}, 0),
        ({"role": "bilten_etl"}, 511),
        ({"param_x": "1"}, 0),
        ({"max_execution_time": 5}, 0),
        ({"readonly": 2}, 0),
        ({"default_format": "CSV"}, 0),
        ({"url_base": "file:///etc/passwd"}, 452),
        ({"input_format_allow_errors_num": 1}, 452),
        ({"force_index_by_date": 1}, 452),
        ({"allow_ddl": 1}, 452),
        ({"custom_anything": 1}, 452),
        ({"database": "system"}, 0),
        ({"database": "default"}, 0),
    ],
)
def test_url_settings_by_allow_list(analyst: Http, parameters: dict[str, str | int], code: int) -> None:
    assert analyst.send("SELECT 1", **parameters).code == code


def test_unqualified_names_resolve_in_the_chosen_database_only(analyst: Http) -> None:
    assert analyst.run("SELECT count() FROM m", database="marts") == "10"
    assert analyst.send("SELECT count() FROM t").code != 0
    assert analyst.send("SELECT * FROM query_log", database="system").code == 497


def test_metadata_shows_readable_databases_only(analyst: Http) -> None:
    names = "'staging','marts','analytics','system','information_schema','INFORMATION_SCHEMA'"
    for sql in (
        f"SELECT count() FROM system.tables WHERE database NOT IN ({names})",
        f"SELECT count() FROM system.columns WHERE database NOT IN ({names})",
        f"SELECT count() FROM system.databases WHERE name NOT IN ({names})",
        "SELECT count() FROM information_schema.tables WHERE table_schema = 'bilten_raw'",
        "SELECT count() FROM information_schema.schemata WHERE schema_name = 'bilten_raw'",
        "SELECT count() FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = 'bilten_raw'",
    ):
        assert analyst.run(sql) == "0", sql
    assert int(analyst.run("SELECT count() FROM system.tables WHERE database = 'marts'")) == 1


def test_insert_bodies_are_refused_before_they_are_read(analyst: Http) -> None:
    assert analyst.send(b"1,x\n", query="INSERT INTO marts.m FORMAT CSV").code == 497


def test_the_engine_alone_would_refuse_too(http_client: Http) -> None:
    """The second wall by itself: what the role cannot do even if a statement slipped through."""
    grants = http_client.run("SHOW GRANTS FOR bilten_analyst")
    assert "SELECT ON marts.*" in grants
    for word in (
        "FILE",
        "URL",
        "S3",
        "REMOTE",
        "POSTGRES",
        "INSERT",
        "CREATE",
        "SYSTEM",
        "dictGet",
        "KILL",
        "ALL",
    ):
        assert word not in grants.split(), word


def test_a_connection_of_an_analyst_has_that_role_and_reads_only(analyst: Http) -> None:
    assert analyst.run("SELECT currentRoles()") == "['bilten_analyst']"
    assert analyst.run("SELECT value FROM system.settings WHERE name = 'readonly'") == "1"


#: Where a literal or a comment ends, told so that a lexer and the engine's parser may disagree.
CLOAKS = {
    "quotes of a word processor": (
        "SELECT \u2018'\u2019 AS x WHERE 0 -- ' FORMAT CSV SETTINGS log_comment = \u2018'\u2019; {} -- '"
    ),
    "double quotes of one": "SELECT 1 AS \u201c--\u201d FORMAT CSV; {} --",
    "a comment in a comment": "SELECT 1 /* /* */ FORMAT CSV -- */ */ ; {} --",
    "a comment that seems closed": "SELECT 1 /*/ FORMAT CSV -- */ ; {} --",
    "a heredoc without an end": "SELECT 1 AS $x$ FORMAT CSV; {} --",
    "a heredoc in a word": "SELECT 1 AS a$$ FORMAT CSV; {} -- $$",
    "a blank that is none": "SELECT 1\u00a0-- ' FORMAT CSV ; {} -- '",
    "a minus that is none": "SELECT 1 \u2212- ' FORMAT CSV ; {} -- '",
    "plainly": "SELECT 1; {}",
}


@pytest.mark.parametrize("cloak", CLOAKS.values(), ids=CLOAKS)
@pytest.mark.parametrize(
    "hidden",
    [
        "SELECT * FROM bilten_raw.t",
        "SET ROLE bilten_etl; CREATE TABLE marts.planted (a Int8) ENGINE = Memory",
        "SELECT 'x' INTO OUTFILE '{file}'",
    ],
)
def test_no_second_statement_hides_behind_a_literal_or_a_comment(
    analyst: Http, http_client: Http, tmp_path: Path, cloak: str, hidden: str
) -> None:
    planted = tmp_path / "planted"
    sql = cloak.format(hidden.format(file=planted))
    for client in (analyst, http_client):  # with all rights as well, one request is one statement
        reply = client.send(sql, log_comment="'")
        assert reply.code in (62, 497), reply.text
    assert not planted.exists()
    assert http_client.run("EXISTS TABLE marts.planted") == "0"


ATOMS = st.lists(
    st.sampled_from(
        [
            *("1", "'a'", r"'\''", "'''", "''", "x'41'", "0x1F", "\\", "$$'$$", "$a$ ' $a$", "$b$", "$"),
            *("/* x */", "/* /* */ */", "/*/", "*/", "-- c\n", "--'\n", "#! '\n", "# -\n", "//;\n"),
            *("AS x", "AS `;`", 'AS "--"', ",", " ", "\n", "+", "- ", ";", "(", ")"),
            *("FORMAT CSV", "SETTINGS max_threads = 1", "WHERE 0", "FROM marts.m", "UNION ALL SELECT 1"),
            *("\u2018'\u2019", "\u201c--\u201d", "\u00a0", "\u2212"),
        ]
    ),
    max_size=8,
).map(lambda atoms: " ".join(["SELECT 1", *atoms]))
PARSE = "SELECT parseQueryToJSON({text:String}) FORMAT TSVRaw"


@given(ATOMS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_statement_with_its_rows_sent_elsewhere_is_the_same_to_the_parser(
    http_client: Http, text: str
) -> None:
    """What the lexer takes for the end of a statement is what the engine takes for it."""
    latin = text.encode().decode("latin-1")
    try:
        text = statement.utf8(statement.without_semicolon(latin))
    except ValueError:
        return
    if statement.outside_quotes(latin) is not None:
        return
    parsed = _parsed(http_client, text)
    routed = _parsed(http_client, statement.into_file(text, access.PIPE))
    # one that nothing may follow (`SELECT 1,`) is not sent to a pipe
    if parsed is not None and routed is not None:
        assert access.same_but_for_its_rows(parsed, routed), text


def _parsed(client: Http, text: str) -> dict[str, Any] | None:
    told = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    reply = client.send(PARSE, param_text=told)
    return dict(json.loads(reply.text)) if reply.status == 200 else None


def test_a_statement_nested_too_deep_is_told_as_that(analyst: Http) -> None:
    for terms, code in ((100, 0), (400, 168), (1500, 167)):
        assert analyst.send("SELECT " + "+".join(["a"] * terms) + " FROM marts.m").code == code


def test_a_query_has_more_than_one_thread(analyst: Http, http_client: Http) -> None:
    """A server grants one per free GiB, which is all the memory there is; pipelines keep to that."""
    http_client.run(
        "CREATE TABLE marts.many (a UInt64) ENGINE = MergeTree ORDER BY tuple() "
        "AS SELECT number FROM numbers(2000000)"
    )
    sql = "EXPLAIN PIPELINE SELECT sum(sipHash64(a)) FROM marts.many"
    try:
        assert "AggregatingTransform × 4" in analyst.run(sql, max_threads=4)
        assert "AggregatingTransform ×" not in http_client.run(sql, max_threads=4)
    finally:
        http_client.run("DROP TABLE marts.many SYNC")


def test_a_driver_reads_the_types_of_a_query_that_it_has_not_run(analyst: Http) -> None:
    assert analyst.run("DESC (SELECT a, b FROM marts.m WHERE a < NULL) FORMAT TSV").split()[:4] == [
        "a",
        "UInt64",
        "b",
        "String",
    ]


def test_an_analyst_is_shown_what_the_gate_lets_through(analyst: Http) -> None:
    shown = analyst.run("SHOW GRANTS FINAL")
    assert "GRANT SELECT ON marts.* TO bilten_analyst" in shown
    assert "bilten_raw" not in shown and "INSERT" not in shown


def test_an_analyst_kills_its_own_query_and_no_other(analyst: Http, http_client: Http) -> None:
    slow = "SELECT count() FROM system.numbers WHERE NOT ignore(sipHash64(number))"
    replies: dict[str, Reply] = {}

    def run(client: Http) -> threading.Thread:
        name = client.user[0]
        thread = threading.Thread(
            target=lambda: replies.update({name: client.send(slow, query_id=f"long-{name}")})
        )
        thread.start()
        tag = f"Settings['chdb_client_name'] = '{name}:long-{name}'"
        while http_client.run(f"SELECT count() FROM system.processes WHERE {tag}") != "1":
            assert thread.is_alive(), replies
        return thread

    theirs, own = run(http_client), run(analyst)
    assert analyst.send("KILL QUERY WHERE query_id = 'long-bilten_etl'").status == 200
    assert analyst.send("KILL QUERY WHERE query_id = 'long-bilten_analyst' SYNC").status == 200
    own.join(20)
    assert (replies["bilten_analyst"].code, theirs.is_alive()) == (394, True)
    http_client.run("KILL QUERY WHERE query_id = 'long-bilten_etl'")
    theirs.join(20)
    assert replies["bilten_etl"].code == 394
