"""Both servers know which run asked for a statement."""

import dagster as dg
from psycopg import sql

from bilten_orchestration import face
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from bilten_orchestration.stores.origin import Origin, working_for
from bilten_orchestration.stores.resources import Platform

RUN = "0f8fad5b-d9cb-469f-a165-70867728950e"
ORIGIN = Origin(RUN, ("marts/dim_events",))
WHO = "select application_name, query from pg_stat_activity where pid = pg_backend_pid()"


def test_postgresql_in_short_and_as_a_whole(settings: Settings) -> None:
    end = f"/* run={RUN} assets=marts/dim_events */"
    with (
        working_for(ORIGIN),
        postgres.connect(settings.postgres, application_name="x" * 80, autocommit=True) as connection,
    ):
        for statement in (WHO, WHO.encode(), sql.SQL(WHO)):
            name, query = connection.execute(statement).fetchone() or ("", "")
            assert name == "x" * 54 + " 0f8fad5b"
            assert query == f"{WHO} {end}"
        ((_, query),) = connection.cursor().stream(WHO)
        assert query.endswith(end)
        with connection.cursor().copy(f"copy ({WHO}) to stdout") as copied:
            ((_, query),) = copied.rows()
        assert query.endswith(end)
        connection.execute("create temporary table numbers (n int)")
        connection.cursor().executemany("insert into numbers values (%s)", [(1,), (2,)])
        assert connection.execute("select sum(n) from numbers where n > %s", (0,)).fetchone() == (3,)
    with (
        working_for(ORIGIN),
        postgres.connect(settings.postgres, application_name="bilten build 0f8fad5b") as named,
    ):
        assert (named.execute(WHO).fetchone() or ("",))[0] == "bilten build 0f8fad5b"
    with postgres.connect(settings.postgres) as by_hand:
        assert by_hand.execute(WHO).fetchone() == ("bilten", WHO)


def test_clickhouse_in_log_comment(settings: Settings) -> None:
    with working_for(ORIGIN):
        client = clickhouse.connect(settings.clickhouse)
    assert client.query("select getSetting('log_comment')").result_rows == [(ORIGIN.text,)]
    client.close()


def test_an_asset_and_a_check_are_named(settings: Settings) -> None:
    said: list[str] = []

    def look(platform: Platform) -> None:
        with postgres.connect(platform.settings.postgres) as connection:
            said.append(str((connection.execute(WHO).fetchone() or ("", ""))[1]))

    @dg.asset(key=["backups", "one"])
    def one(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> None:
        with face.step(context):
            look(platform)

    @dg.asset_check(asset=one)
    def judged(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.AssetCheckResult:
        with face.step(context):
            look(platform)
        return dg.AssetCheckResult(passed=True)

    result = dg.materialize([one, judged], resources={"platform": Platform(settings)})
    assert [each.removeprefix(WHO) for each in said] == [f" /* run={result.run_id} assets=backups/one */"] * 2
