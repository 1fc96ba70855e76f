"""What restoring a database needs to know and its dump does not say: stored beside the dumps, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from bilten_orchestration.backups.preflight import Requirement
from bilten_orchestration.errors import AccessRefused, Mismatch, StoreUnavailable
from bilten_orchestration.settings import PostgresSettings
from bilten_orchestration.stores.postgres import Connection, Role, connect

_NAME = "bilten logical backup"

# the columns of pg_database differ from version to version: datlocale was daticulocale before 17
_PROPERTIES = """
    select to_jsonb(d), pg_encoding_to_char(d.encoding), pg_get_userbyid(d.datdba), pg_database_size(d.oid),
           current_setting('server_version_num')::int / 10000
    from pg_database d where d.datname = current_database()
"""
# what an extension brings is not dumped
_OWN = (
    "not exists (select from pg_depend e where e.objid = {oid} and e.classid = {catalog} and e.deptype = 'e')"
)
_TABLES = f"""
    select n.nspname::text, c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and c.relpersistence <> 't'
      and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'
      and {_OWN.format(oid="c.oid", catalog="'pg_class'::regclass")}
    order by 1, 2
"""
_HIDDEN = f"""
    select format('%I.%I', nspname, relname) from ({_TABLES}) t
    where not has_table_privilege(format('%I.%I', nspname, relname), 'select')
"""
_ROLES = """
    select distinct r.rolname::text from pg_shdepend d join pg_roles r on r.oid = d.refobjid
    where d.refclassid = 'pg_authid'::regclass
      and d.dbid = (select oid from pg_database where datname = current_database())
    union select pg_get_userbyid(datdba)::text from pg_database where datname = current_database()
    order by 1
"""
_EXTENSIONS = "select extname::text from pg_extension where extname <> 'plpgsql' order by 1"


@dataclass(frozen=True, slots=True)
class Database:
    """One database of a logical backup. `role` is whose connection dumps it (of the settings).

    `provider` is as in pg_database: b(uiltin), c (libc), i(cu). `roles` are those that own something in it or
    were granted something; `tables` (schema, name) with partitioned ones.
    """

    name: str
    role: Role
    major: int
    bytes: int
    owner: str
    encoding: str
    provider: str
    collate: str
    ctype: str
    locale: str | None
    roles: tuple[str, ...]
    extensions: tuple[str, ...]
    tables: tuple[tuple[str, str], ...]


def look(connection: Connection, name: str, role: Role) -> Database:
    """The database of this connection."""
    row = connection.execute(_PROPERTIES).fetchone()
    assert row is not None  # noqa: S101
    properties, encoding, owner, size, major = row

    def names(query: str) -> tuple[str, ...]:
        return tuple(found for (found,) in connection.execute(query).fetchall())

    return Database(
        name,
        role,
        major,
        size,
        owner,
        encoding,
        properties["datlocprovider"],
        properties["datcollate"],
        properties["datctype"],
        properties.get("datlocale") or properties.get("daticulocale"),
        names(_ROLES),
        names(_EXTENSIONS),
        tuple((schema, table) for schema, table in connection.execute(_TABLES).fetchall()),
    )


def requirements(settings: PostgresSettings) -> tuple[Requirement, ...]:
    """That each database of a logical backup can be read by the role that dumps it."""
    return tuple(_readable(settings, name, role) for name, role in of(settings))


def of(settings: PostgresSettings) -> tuple[tuple[str, Role], ...]:
    """The platform's databases, and who dumps them: the owner of one has no business in the other."""
    return ((settings.database, "owner"), (settings.dagster_database, "dagster"))


def _readable(settings: PostgresSettings, name: str, role: Role) -> Requirement:
    mend = ""
    try:
        with connect(settings, role, application_name=_NAME, autocommit=True, database=name) as connection:
            (user,) = connection.execute("select current_user::text").fetchone() or ("",)
            hidden = [table for (table,) in connection.execute(_HIDDEN).fetchall()]
    except (AccessRefused, StoreUnavailable) as error:
        hidden, found, mend = [name], error.problems[0].found, error.problems[0].next
    else:
        found = f"not {', '.join(hidden[:5])}" if hidden else "it can"
        mend = f'grant pg_read_all_data to "{user}"' if hidden else ""
    return Requirement(
        f"every table of {name} can be read", not hidden, "it can", found, mend, "logical backups"
    )


def written(databases: list[Database]) -> bytes:
    return json.dumps([asdict(each) for each in databases], indent=1).encode()


def read(body: bytes) -> list[Database]:
    """Raises Mismatch for a document of another form."""
    try:
        return [_one(found) for found in json.loads(body)]
    except (ValueError, TypeError, KeyError) as error:
        raise Mismatch(
            "what the backup says of its databases cannot be read",
            expected="a document that this version of bilten writes",
            found=type(error).__name__,
            next="use the version of bilten that wrote it",
        ) from None


def _one(found: dict[str, Any]) -> Database:
    lists = {name: tuple(found[name]) for name in ("roles", "extensions")}
    return Database(
        **{**found, **lists, "tables": tuple((schema, table) for schema, table in found["tables"])}
    )
