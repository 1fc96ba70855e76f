"""pg_dumpall's script in statements."""

from __future__ import annotations

from bilten_orchestration.backups.postgres import globals

SCRIPT = r"""--
-- PostgreSQL database cluster dump
--

\restrict abc

SET client_encoding = 'UTF8';

--
-- Roles; with a semicolon
--

CREATE ROLE "odd; ""role";
ALTER ROLE "odd; ""role" WITH LOGIN PASSWORD 'SCRAM-SHA-256$4096:a;b''c$d:e';
COMMENT ON ROLE "odd; ""role" IS 'first line
-- second; line';

\unrestrict abc
"""


def test_semicolons_in_names_and_strings_end_nothing() -> None:
    found = list(globals.statements(SCRIPT))
    assert found[:2] == ["SET client_encoding = 'UTF8';", 'CREATE ROLE "odd; ""role";']
    assert found[2].endswith("$d:e';")
    assert len(found) == 4
