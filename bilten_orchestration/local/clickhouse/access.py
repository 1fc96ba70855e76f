"""What an analyst may do, decided on the statement as the engine's own parser understands it.

`parseQueryToJSON` gives the parse tree of a statement that is handed over as a string and never run.
Everything in the tree must be known here to be harmless: node types, tables, functions, settings. What
is not listed is refused, so a construct that a later engine adds is refused until somebody looks at it.

What runs is that statement with its rows sent to a pipe (`statement.into_file`). It is parsed as well, and
must be the same tree but for where its rows go: what lexer and parser do not see alike is refused, and what
cannot be sent to a pipe runs as it was judged.

The second wall is the engine itself: the connection holds a role without any source, write or system
right (engine_config.py), readonly=1, and filters on the metadata tables.

DESCRIBE, EXISTS, SHOW CREATE and SHOW FUNCTIONS have no JSON form; their EXPLAIN AST is short enough to
be compared as a whole with what is allowed. DESCRIBE (SELECT ...) is judged as a SELECT from that bracket.
"""

import json
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bilten_orchestration.local.clickhouse import grants, statement
from bilten_orchestration.local.clickhouse.engine import Connection, Engine, EngineError, quoted

ACCESS_DENIED = 497
BAD_ARGUMENTS = 36
TOO_DEEP = 168

#: Stands for the pipe of a request: only its place in the statement matters
PIPE = "/proc/self/fd/0"
_TO_PIPE = {"type": "Literal", "value": {"field_type": "String", "value": PIPE}}

_EXPRESSIONS = frozenset(
    """SelectWithUnionQuery SelectIntersectExceptQuery SelectQuery ExpressionList Subquery WithElement
    Identifier Literal Function Asterisk QualifiedAsterisk ColumnsRegexpMatcher ColumnsListMatcher
    QualifiedColumnsRegexpMatcher QualifiedColumnsListMatcher ColumnsTransformerList
    ColumnsExceptTransformer ColumnsReplaceTransformer ColumnsReplaceTransformerReplacement
    ColumnsApplyTransformer TablesInSelectQuery TablesInSelectQueryElement TableExpression TableIdentifier
    TableJoin ArrayJoin SampleRatio OrderByElement InterpolateElement WindowDefinition WindowListElement
    QueryParameter SetQuery""".split()  # noqa: SIM905
)
_ROOTS = frozenset(
    {"SelectWithUnionQuery", "ExplainQuery", "ShowTablesQuery", "ShowColumnsQuery", "ShowIndexesQuery"}
)
_EXPLAINS = frozenset(
    {"EXPLAIN", "EXPLAIN AST", "EXPLAIN SYNTAX", "EXPLAIN QUERY TREE", "EXPLAIN PIPELINE", "EXPLAIN ESTIMATE"}
)
_SHOWN = frozenset(
    """type databases settings changed full like not_like case_insensitive_like where_expression limit_length
    from format_ast settings_ast""".split()  # noqa: SIM905
)
_IN = re.compile(r"^(global)?(not)?(null)?in(ignoreset)?$", re.IGNORECASE)
# Forms of EXPLAIN AST for statements without a JSON tree; names are checked, nothing else may follow.
_TABLE_QUERY = re.compile(
    r"(?:ExistsTableQuery|ExistsViewQuery|ShowCreateTableQuery|ShowCreateViewQuery)"
    r" (?P<head>\S*) (?P<table>\w+)"
    r" \(children [123]\)(?:\n Identifier \w+){1,2}(?:\n Identifier (?P<format>\w+))?\n?"
)
_DATABASE_QUERY = re.compile(
    r"(?:ExistsDatabaseQuery|ShowCreateDatabaseQuery) (?P<database>\w+)  \(children [12]\)"
    r"\n Identifier \w+(?:\n Identifier \w+)?\n?"
)
_DESCRIBE = re.compile(
    r"DescribeQuery \(children [12]\)\n TableExpression \(children 1\)"
    r"\n  TableIdentifier (?P<name>\w+(?:\.\w+)?)"
    r"(?:\n Identifier \w+)?\n?"
)
_FUNCTIONS = re.compile(r"ShowFunctions(?: \(children 1\)\n Identifier \w+)?\n?")


def refused(what: str, instead: str = "") -> EngineError:
    """ACCESS_DENIED in the server's words, with the way that is open."""
    hint = f" {instead}" if instead else ""
    return EngineError(
        ACCESS_DENIED, f"Not enough privileges: {what} is not allowed for analysts.{hint} (ACCESS_DENIED)"
    )


class Functions:
    """Names of functions that compute on their arguments alone, as this engine has them."""

    def __init__(
        self, rows: Iterable[tuple[str, bool, bool, str, str, str]], combinators: Iterable[str]
    ) -> None:
        """Rows of system.functions: name, is_aggregate, case_insensitive, alias_to, categories, origin."""
        self._exact: set[str] = set(grants.SAFE_FUNCTIONS)
        self._folded: set[str] = set()
        self._aggregates: set[str] = set()
        listed = list(rows)
        category = {name: categories for name, _, _, _, categories, _ in listed}
        for name, is_aggregate, folds, alias_to, categories, origin in listed:
            if origin != "System":
                continue
            target = alias_to or name
            safe = (
                is_aggregate
                or target in grants.SAFE_FUNCTIONS
                or category.get(target, categories) in grants.SAFE_CATEGORIES
            )
            if safe:
                (self._folded if folds else self._exact).add(name.lower() if folds else name)
                if is_aggregate:
                    self._aggregates.add(name.lower() if folds else name)
        self._combinators = sorted(combinators, key=len, reverse=True)

    @classmethod
    def of(cls, connection: Connection) -> "Functions":
        """Read from the engine once, at its start."""
        listed = connection.own(
            "SELECT name, is_aggregate, case_insensitive, alias_to, categories, origin FROM system.functions"
            " FORMAT JSONCompactEachRow"
        )
        combinators = connection.own(
            "SELECT name FROM system.aggregate_function_combinators FORMAT JSONCompactEachRow"
        )
        rows = [json.loads(line) for line in listed.splitlines()]
        return cls(
            [
                (name, bool(agg), bool(folds), alias, categories, origin)
                for name, agg, folds, alias, categories, origin in rows
            ],
            [json.loads(line)[0] for line in combinators.splitlines()],
        )

    def allow(self, name: str) -> bool:
        if name in self._exact or name.lower() in self._folded:
            return True
        while True:
            suffix = next((c for c in self._combinators if name.endswith(c) and name != c), None)
            if suffix is None:
                return False
            name = name[: -len(suffix)]
            if name in self._aggregates or name.lower() in self._aggregates:
                return True


def own_grants(text: str, user: str) -> str | None:
    """`SHOW GRANTS [FINAL]` of an analyst as a SELECT of what this file lets through; None for another
    statement. The engine would show its own user's."""
    words = [token.text.upper() for token in statement.tokens(text)]
    if words not in (["SHOW", "GRANTS"], ["SHOW", "GRANTS", "FINAL"]):
        return None
    places = [f"{name}.*" for name in sorted(grants.READABLE_DATABASES | grants.INFORMATION_SCHEMAS)]
    places += [f"system.{table}" for table in sorted(grants.READABLE_SYSTEM_TABLES)]
    lines = ", ".join(quoted(f"GRANT SELECT ON {place} TO {user}") for place in places)
    return f"SELECT arrayJoin([{lines}]) AS `GRANTS`"


class Judgement:
    """One walk over one parse tree; `settings` are those the statement itself asks for."""

    def __init__(self, functions: Functions, database: str) -> None:
        self._functions = functions
        self._database = database
        self.settings: dict[str, str] = {}

    def root(self, tree: dict[str, Any]) -> None:
        kind = tree["type"]
        if kind not in _ROOTS:
            raise refused(
                kind.removesuffix("Query"), "Analysts read: SELECT, EXPLAIN, SHOW, DESCRIBE, EXISTS."
            )
        if kind == "ExplainQuery":
            self._explain(tree)
        elif kind == "ShowTablesQuery":
            self._show(tree)
        elif kind in ("ShowColumnsQuery", "ShowIndexesQuery"):
            self.table([part for part in (tree.get("database"), tree.get("table")) if part])
            self._walk(
                {key: value for key, value in tree.items() if key not in ("type", "database", "table")}
            )
        else:
            self._walk(tree)

    def _explain(self, tree: dict[str, Any]) -> None:
        if tree.get("kind") not in _EXPLAINS or not isinstance(tree.get("query"), dict):
            raise refused(str(tree.get("kind")))
        if tree["query"].get("type") != "SelectWithUnionQuery":
            raise refused(f"{tree['kind']} of {tree['query'].get('type')}")
        self._walk({key: value for key, value in tree.items() if key not in ("type", "settings", "kind")})

    def _show(self, tree: dict[str, Any]) -> None:
        for key, value in tree.items():
            if key not in _SHOWN and value and not key.startswith("is_"):
                raise refused(f"SHOW {key.upper()}")
        source = tree.get("from")
        if source is not None:
            if source.get("type") != "Identifier" or source.get("name") not in grants.VISIBLE_DATABASES:
                raise refused(f"database {source.get('name')}")
        elif not (tree.get("databases") or tree.get("settings")):
            self._database_allowed(self._database)
        self._walk({key: value for key, value in tree.items() if key not in ("type", "from")})

    def _walk(self, node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                self._walk(item)
            return
        if not isinstance(node, dict):
            return
        kind = node.get("type")
        if kind is not None and kind not in _EXPRESSIONS:
            raise refused(str(kind))
        if node.get("out_file") is not None:
            raise refused("INTO OUTFILE")
        match kind:
            case "Literal":
                return
            case "Function":
                self._function(node)
            case "ColumnsApplyTransformer":
                if node.get("func_name"):
                    self._name(node["func_name"])
            case "TableExpression":
                if node.get("table_function") is not None:
                    raise refused(f"table function {node['table_function'].get('name')}")
                for key in node:
                    if key.startswith("stream"):
                        raise refused("STREAM")
            case "TableIdentifier":
                if node.get("children"):
                    raise refused("a table name as a parameter")
                self.table(node.get("name_parts") or [node["name"]])
                return
            case "QueryParameter":
                if node.get("param_type") == "Identifier":
                    raise refused("a parameter of type Identifier")
                return
            case "SetQuery":
                self._set(node)
                return
        for key, value in node.items():
            if key != "type" and isinstance(value, dict | list):
                self._walk(value)

    def _function(self, node: dict[str, Any]) -> None:
        name = node["name"]
        self._name(name)
        if _IN.match(name):
            arguments = (node.get("arguments") or {}).get("children") or []
            # On the right of IN a bare name means a table.
            for right in arguments[1:]:
                if right.get("type") == "Identifier":
                    self.table(right.get("name_parts") or [right["name"]])

    def _name(self, name: str) -> None:
        if not self._functions.allow(name):
            raise refused(f"function {name}")

    def _set(self, node: dict[str, Any]) -> None:
        extra = [key for key in node if key not in ("type", "changes", "is_standalone") and node[key]]
        if extra:
            raise refused(f"SETTINGS with {', '.join(extra)}")
        for change in node.get("changes", []):
            name, value = change["name"], change["value"].get("value")
            check_setting(name)
            if isinstance(value, dict | list) or value is None:
                raise refused(f"a value of that kind for setting {name}")
            self.settings[name] = str(int(value)) if isinstance(value, bool) else str(value)

    def table(self, parts: list[str]) -> None:
        """A table by its name parts; an unqualified one lies in the current database (or is a CTE)."""
        if len(parts) == 1:
            if self._database not in grants.VISIBLE_DATABASES | {"default"}:
                raise refused(f"database {self._database}")
            if self._database == "system":
                self.table([self._database, *parts])
            # `default` is where a client without a database lands: CTEs and temporary names resolve
            # there, and the analyst's role holds no right on its tables.
            return
        if len(parts) != 2:
            raise refused(f"table {'.'.join(parts)}")
        database, table = parts
        if database == "system":
            if table not in grants.READABLE_SYSTEM_TABLES:
                raise refused(f"table system.{table}")
            return
        if database not in grants.INFORMATION_SCHEMAS:
            self._database_allowed(database)

    def _database_allowed(self, database: str) -> None:
        if database not in grants.READABLE_DATABASES:
            raise refused(
                f"database {database}",
                f"Analysts read {', '.join(sorted(grants.READABLE_DATABASES))}; qualify the table.",
            )


def check_setting(name: str) -> None:
    """Refuse a setting that an analyst may not change."""
    if name not in grants.SAFE_SETTINGS and not name.startswith(grants.SAFE_SETTING_PREFIXES):
        raise EngineError(
            452,
            f"Setting {name} should not be changed: it is not among those an analyst may set."
            " (SETTING_CONSTRAINT_VIOLATION)",
        )


def check_settings(settings: Mapping[str, str], database: str) -> None:
    """What comes with the URL: settings by allow-list, the current database among the visible ones."""
    for name in settings:
        check_setting(name)
    if database and database not in grants.VISIBLE_DATABASES | {"default"}:
        raise refused(f"database {database}")


@dataclass(frozen=True, slots=True)
class Judged:
    """An allowed statement: the settings that its text carries, and whether its rows may go to a pipe."""

    settings: dict[str, str]
    streams: bool


class Gate:
    """Judges statements on a connection of its own, which has an analyst's rights and no more."""

    def __init__(self, engine: Engine) -> None:
        self._connection = engine.open({}, analyst=True)
        self._functions = Functions.of(self._connection)
        self._lock = threading.Lock()

    def judge(self, text: str, database: str) -> Judged:
        """Refuse a statement that is not among the allowed ones.

        Raises EngineError: 497 for what is not allowed, the parser's own 62 for what is no statement.
        """
        judgement = Judgement(self._functions, database or "default")
        with self._lock:
            tree = self._tree(text)
            described = statement.described_query(text) if tree is None else None
            # The same parser reads the bracket behind FROM as behind DESCRIBE.
            judged = tree if described is None else self._tree(described)
            if judged is None:
                _judge_explained(self._connection, judgement, text)
            else:
                try:
                    judgement.root(judged)
                except RecursionError:
                    raise EngineError(TOO_DEEP, "The statement is nested too deep (TOO_DEEP_AST)") from None
            try:
                routed = self._tree(statement.into_file(text, PIPE))
            except EngineError:  # `SELECT 1,`: nothing may follow it
                return Judged(judgement.settings, streams=False)
        if not same_but_for_its_rows(tree, routed):
            raise refused("a statement whose end this endpoint cannot tell")
        return Judged(judgement.settings, streams=True)

    def _tree(self, text: str) -> dict[str, Any] | None:
        """The parse tree; None of a statement that has no JSON form.

        Raises the parser's own EngineError, also where there is more than one statement.
        """
        try:
            tree = self._connection.own(f"SELECT parseQueryToJSON({quoted(text)}) FORMAT TSVRaw")
        except EngineError as error:
            if error.code == BAD_ARGUMENTS:
                return None
            raise EngineError(
                error.code, error.message.split(": In scope SELECT parseQueryToJSON")[0]
            ) from None
        try:
            return dict(json.loads(tree))
        except RecursionError:
            raise EngineError(TOO_DEEP, "The statement is nested too deep (TOO_DEEP_AST)") from None

    def close(self) -> None:
        self._connection.close()


def same_but_for_its_rows(tree: dict[str, Any] | None, routed: dict[str, Any] | None) -> bool:
    """Whether the second is the first with its rows written to the pipe, and nothing else."""
    if tree is None or routed is None:
        return tree is routed
    wanted = tree | {"out_file": _TO_PIPE, "is_outfile_truncate": True}
    return {key: value for key, value in wanted.items() if value} == {
        key: value for key, value in routed.items() if value
    }


def _judge_explained(connection: Connection, judgement: Judgement, text: str) -> None:
    """DESCRIBE, EXISTS, SHOW CREATE, SHOW FUNCTIONS: nothing but a name may be in them."""
    # On a line of its own and behind a bracket-free prefix: EXPLAIN AST parses exactly one statement.
    tree = connection.own(f"EXPLAIN AST\n{text}").decode()
    if found := _TABLE_QUERY.fullmatch(tree):
        judgement.table([part for part in (found["head"], found["table"]) if part])
    elif found := _DATABASE_QUERY.fullmatch(tree):
        judgement.table([found["database"], "any"])
    elif found := _DESCRIBE.fullmatch(tree):
        judgement.table(found["name"].split("."))
    elif not _FUNCTIONS.fullmatch(tree):
        raise refused(tree.split(None, 1)[0].removesuffix("Query") if tree.split() else "this statement")
