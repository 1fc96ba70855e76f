"""What the Dagster faces of all domains share: owners, how errors end a run, how problems are shown.

Retries follow the types of errors and not guesses: a TransientError is tried again as RETRY says, everything
else is a Failure that allows no retry.

No asset has a retry_policy of Dagster's: that is applied to an interrupt too (op_execution_error_boundary in
dagster/_core/execution/plan/utils.py; dagster issue 15026), so that a run that is terminated in the UI would
begin its step anew and go on, though it is shown as canceled after some minutes. `step` asks for another try
itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import dagster as dg

from bilten_orchestration.errors import BiltenError, Problem, TransientError
from bilten_orchestration.stores.origin import Origin, working_for

if TYPE_CHECKING:  # not among the names that dagster exports
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

Job: TypeAlias = "UnresolvedAssetJobDefinition"

# This dagster, whose version is locked, marks owners of jobs as beta and checks with partitions as preview:
# without these lines every process that loads the definitions says so dozens of times.
warnings.filterwarnings("ignore", r".*`owners`", dg.BetaWarning)
warnings.filterwarnings("ignore", r".*partitions_def on an AssetCheckSpec", dg.PreviewWarning)

DATA_PLATFORM: Final = "team:data-platform"
COMMAND: Final = "bilten/by_hand"  # run tag: what does the same from a shell
HELP: Final = "bilten/on_failure"  # run tag: where to look first
NO_FRESHNESS: Final = "bilten/no_freshness"  # metadata: why an asset has no freshness policy
BY_APPLICATION: Final = {NO_FRESHNESS: "written by the application at any time, and by no run"}
TOLD_PROBLEMS: Final = 3  # in the text of a failure
SHOWN_PROBLEMS: Final = 50

_STATEMENT_MILLISECONDS: Final = 300_000

#: Of every asset whose work stands in `step`. Checks are not tried again: the next run looks anew.
RETRY: Final = dg.RetryPolicy(
    max_retries=3, delay=30, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)


def keep_connection(context: dg.AssetExecutionContext) -> None:
    """Let this run keep its connection to Dagster's storage, for steps that record many events.

    In a run the storage connects anew for every statement: measured 90 ms an event against 6 ms, which is a
    minute for the checks of 30 days. The method is named after the webserver, where dagster calls it itself.
    """
    context.instance.event_log_storage.optimize_for_webserver(
        statement_timeout=_STATEMENT_MILLISECONDS, pool_recycle=3600, max_overflow=5
    )


#: What every schedule has in common: it is on from the start, in UTC, and somebody's. For @dg.schedule.
SCHEDULED: Final[Mapping[str, Any]] = {
    "execution_timezone": "UTC",
    "default_status": dg.DefaultScheduleStatus.RUNNING,
    "owners": [DATA_PLATFORM],
}


def schedule(name: str, job: Job, cron: str, description: str) -> dg.ScheduleDefinition:
    """A schedule that always asks for the same run."""
    return dg.ScheduleDefinition(name=name, job=job, cron_schedule=cron, description=description, **SCHEDULED)


def job(
    name: str, selection: dg.AssetSelection, description: str, *, on_failure: str, by_hand: str = ""
) -> Job:
    """A job of assets or checks. Its runs carry what does the same from a shell, where something does, and
    where to look first when one has failed: both are in the message about that incident."""
    return dg.define_asset_job(
        name,
        selection=selection,
        description=description,
        owners=[DATA_PLATFORM],
        tags={HELP: on_failure} | ({COMMAND: by_hand} if by_hand else {}),
    )


Context = dg.AssetExecutionContext | dg.AssetCheckExecutionContext


@contextmanager
def step(context: Context) -> Iterator[None]:
    """The work of a step: both databases are told which run and assets ask (stores/origin.py), and errors of
    the engines become Dagster's Failure, with their problems as metadata; passing ones are tried again. An
    interrupt goes through as it is."""
    with working_for(_origin(context)), _failures(context):
        yield


def _origin(context: Context) -> Origin:
    assets = set(context.selected_asset_keys) if isinstance(context, dg.AssetExecutionContext) else set()
    assets = assets or {check.asset_key for check in context.selected_asset_check_keys}
    return Origin(
        context.op_execution_context.run_id, tuple(sorted(each.to_user_string() for each in assets))
    )


@contextmanager
def _failures(context: Context) -> Iterator[None]:
    try:
        yield
    except BiltenError as error:
        told = failure(error.problems)
        if not (isinstance(error, TransientError) and isinstance(context, dg.AssetExecutionContext)):
            raise told from None
        again = RETRY.calculate_delay(context.op_execution_context.retry_number + 1)
        raise dg.RetryRequested(max_retries=RETRY.max_retries, seconds_to_wait=again) from told
    except (dg.Failure, dg.RetryRequested, dg.DagsterExecutionInterruptedError, GeneratorExit):
        raise
    except Exception as error:
        raise dg.Failure(
            description=f"{type(error).__name__}: {error}", allow_retries=False
        ) from error  # a defect: trying again changes nothing


def failure(problems: Sequence[Problem]) -> dg.Failure:
    told = "\n".join(map(str, problems[:TOLD_PROBLEMS]))
    more = len(problems) - TOLD_PROBLEMS
    return dg.Failure(
        description=told + (f"\n(and {more} more, in the metadata)" if more > 0 else ""),
        metadata={"problems": table(problems)},
        allow_retries=False,
    )


def table(problems: Sequence[Problem]) -> dg.TableMetadataValue:
    """Problems as a table; at most SHOWN_PROBLEMS of them."""
    return dg.MetadataValue.table(
        records=[dg.TableRecord(problem.as_dict()) for problem in problems[:SHOWN_PROBLEMS]],
        schema=dg.TableSchema(
            columns=[dg.TableColumn(name) for name in ("what", "expected", "found", "next")]
        ),
    )


def records(rows: Sequence[Mapping[str, Any]], *, limit: int = SHOWN_PROBLEMS) -> dg.TableMetadataValue:
    """Rows of equal keys as a table; values as text where Dagster's tables take nothing else."""
    shown = [{key: _plain(value) for key, value in row.items()} for row in rows[:limit]]
    names = list(dict.fromkeys(key for row in shown for key in row))
    return dg.MetadataValue.table(
        records=[dg.TableRecord({name: row.get(name) for name in names}) for row in shown],
        schema=dg.TableSchema(columns=[dg.TableColumn(name) for name in names]),
    )


def _plain(value: Any) -> str | int | float | bool | None:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
