"""The server and the database that a dump is restored into: what is there, what is missing, what is made."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import sql

from bilten_orchestration.backups.postgres import logical_sql
from bilten_orchestration.backups.postgres.databases import Database
from bilten_orchestration.errors import Problem
from bilten_orchestration.settings import PostgresSettings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection

NAME = "bilten restore"
GROWING = ".restoring"
_LONGEST_NAME = 63
_LIBRARIES = {"b": "builtin", "c": "libc", "i": "icu"}


@dataclass(frozen=True, slots=True)
class Target:
    """`connection` is in the database postgres of the server, in autocommit. `labels` is what the database
    `name` holds already, None when there is none of that name; `empty` when it holds nothing of its own."""

    server: PostgresSettings
    connection: Connection
    name: str
    labels: frozenset[str] | None
    empty: bool

    @property
    def new(self) -> bool:
        return self.labels is None

    @property
    def growing(self) -> str:
        """Where it is restored: a database of the right name is a whole one."""
        return f"{self.name}{GROWING}" if self.new else self.name

    @property
    def left(self) -> str:
        """What a failure leaves, for the person who must decide."""
        if not self.new:
            return ""
        return (
            f'the database "{self.growing}" holds what was restored: look at it, rename it if it is good'
            " enough; the next call drops it"
        )

    @classmethod
    @contextmanager
    def of(cls, server: PostgresSettings, name: str) -> Iterator[Target]:
        with connect(server, "postgres") as connection:
            found = connection.execute("select from pg_database where datname = %s", (name,)).fetchone()
            if found is None:
                yield cls(server, connection, name, None, True)
                return
            with connect(server, name) as inside:
                inside.execute("set search_path = ''")
                labels = frozenset(text for (text,) in inside.execute(logical_sql.LABELS).fetchall())
                holds = inside.execute(logical_sql.HOLDS).fetchone() == (True,)
            yield cls(server, connection, name, labels, not holds)

    def problems(
        self, source: Database, table: tuple[str, str] | None, *, owners: bool, roles_come: bool
    ) -> list[Problem]:
        """Everything for which it would fail."""
        row = self.connection.execute(logical_sql.ME).fetchone()
        assert row is not None  # noqa: S101
        me, superuser, creates, version, major = row
        return [
            *self._of_name(table),
            *_of_version(source, version, major),
            *self._of_roles(source, me, superuser=superuser, owners=owners, roles_come=roles_come),
            *self._of_extensions(source, me, superuser=superuser, whole=table is None),
            *(
                [
                    Problem(
                        f"{me} may not create the database {self.name}",
                        expected="CREATEDB, or an empty database of that name",
                        found="neither",
                        next=f'--user a superuser, or alter role "{me}" createdb',
                    )
                ]
                if self.new and not (superuser or creates)
                else []
            ),
        ]

    def create(self, source: Database, *, owners: bool) -> None:
        """The database, as its source was, entered by its owner alone: it may hold people's data."""
        locale = {"b": "builtin_locale", "i": "icu_locale"}.get(source.provider)
        options = [
            sql.SQL("encoding {} locale_provider {} lc_collate {} lc_ctype {}").format(
                *map(
                    sql.Literal,
                    (source.encoding, _LIBRARIES[source.provider], source.collate, source.ctype),
                )
            )
        ]
        if locale is not None and source.locale is not None:
            options.append(sql.SQL("{} {}").format(sql.SQL(locale), sql.Literal(source.locale)))
        if owners:
            options.append(sql.SQL("owner {}").format(sql.Identifier(source.owner)))
        name = sql.Identifier(self.growing)
        self.connection.execute(
            sql.SQL("create database {} template template0 {}").format(name, sql.SQL(" ").join(options))
        )
        self.connection.execute(sql.SQL("revoke all on database {} from public").format(name))

    def drop_growing(self) -> bool:
        """Remove what a killed restore left, and end what of it is still at work."""
        found = self.connection.execute(
            "select from pg_database where datname = %s", (self.growing,)
        ).fetchone()
        if not self.new or found is None:
            return False
        self.connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(self.growing)))
        return True

    def finish(self) -> None:
        if self.new:
            self.connection.execute(
                sql.SQL("alter database {} rename to {}").format(
                    sql.Identifier(self.growing), sql.Identifier(self.name)
                )
            )

    def _of_name(self, table: tuple[str, str] | None) -> Iterator[Problem]:
        if len(f"{self.name}{GROWING}".encode()) > _LONGEST_NAME:
            yield Problem(
                "the name of the database is too long",
                expected=f"{_LONGEST_NAME - len(GROWING)} bytes",
                found=self.name,
                next="name another one",
            )
        if table is None and not self.empty:
            yield Problem(
                f"the database {self.name} is not empty",
                expected="a new database, or one without tables",
                found="tables or functions",
                next="name another one: nothing is ever restored over data",
            )
        if table is not None and f"TABLE {table[0]} {table[1]}" in (self.labels or ()):
            yield Problem(
                f"the database {self.name} has a table {'.'.join(table)}",
                expected="none of that name",
                found="one",
                next="name a new database, and copy from there what is missing here",
            )

    def _of_roles(
        self, source: Database, me: str, *, superuser: bool, owners: bool, roles_come: bool
    ) -> Iterator[Problem]:
        if not owners:
            return
        asked = self.connection.execute(logical_sql.MISSING_ROLES, (list(source.roles),))
        missing = [name for (name,) in asked.fetchall()]
        if missing and not roles_come:
            yield Problem(
                "roles that own or may use what is restored are not on this server",
                expected=", ".join(source.roles),
                found=f"without {', '.join(missing)}",
                next="--globals makes them as they were; --no-owner gives everything to who restores",
            )
        foreign = self.connection.execute(logical_sql.FOREIGN_ROLES, (list(source.roles),)).fetchall()
        if foreign and not superuser and me != source.owner:
            yield Problem(
                f"{me} may not give what is restored to its owners",
                expected="a superuser, or a member of all of them",
                found=f"no member of {', '.join(name for (name,) in foreign)}",
                next="--user a superuser; or --no-owner",
            )

    def _of_extensions(self, source: Database, me: str, *, superuser: bool, whole: bool) -> Iterator[Problem]:
        there = self.labels or frozenset()
        wanted = [name for name in source.extensions if f"EXTENSION - {name}" not in there] if whole else []
        found: dict[str, bool] = dict(self.connection.execute(logical_sql.EXTENSIONS, (wanted,)).fetchall())
        for name in wanted:
            if name not in found:
                yield Problem(
                    f"the extension {name} is not on this server",
                    expected="its files",
                    found="none",
                    next="install it there",
                )
            elif not (superuser or found[name]):
                yield Problem(
                    f"{me} may not create the extension {name}",
                    expected="a superuser, or a database that has it",
                    found="neither",
                    next="--user a superuser; or let one create database and extension before",
                )


def connect(server: PostgresSettings, database: str) -> Connection:
    return postgres.connect(server, application_name=NAME, autocommit=True, database=database)


def _of_version(source: Database, version: str, major: int) -> Iterator[Problem]:
    if major < source.major:
        yield Problem(
            "the server is older than the dump",
            expected=f"PostgreSQL {source.major} or newer",
            found=version,
            next="name another server (--host, --port)",
        )


def count(
    server: PostgresSettings, database: str, tables: Collection[tuple[str, str]]
) -> dict[tuple[str, str], int]:
    """Rows of each table, without its children's."""
    found = {}
    with connect(server, database) as connection:
        for table in tables:
            row = connection.execute(sql.SQL("select count(*) from only {}").format(sql.Identifier(*table)))
            found[table] = int((row.fetchone() or (0,))[0])
    return found
