"""How errors and interrupts end a step."""

import signal
from collections.abc import Callable

import dagster as dg
import pytest

from bilten_orchestration import face
from bilten_orchestration.errors import Refused, StoreUnavailable


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Before which attempts was waited; for no time."""
    found: list[int] = []

    def wait(policy: dg.RetryPolicy, attempt: int) -> float:
        found.append(attempt)
        return 0.0

    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", wait)
    return found


def run(work: Callable[[], None]) -> dg.ExecuteInProcessResult:
    @dg.asset
    def worked(context: dg.AssetExecutionContext) -> None:
        with face.step(context):
            work()

    return dg.materialize([worked], raise_on_error=False)


def told(result: dg.ExecuteInProcessResult) -> list[object]:
    """What the problems of its failure are."""
    failed = result.failure_data_for_node("worked")
    assert failed is not None
    assert failed.user_failure_data is not None
    table = failed.user_failure_data.metadata["problems"]
    assert isinstance(table, dg.TableMetadataValue)
    return [record.data["what"] for record in table.records]


def test_passing_trouble_is_tried_again_and_then_told(waits: list[int]) -> None:
    left = [StoreUnavailable("away"), StoreUnavailable("still away")]

    def work() -> None:
        if left:
            raise left.pop(0)

    assert run(work).success
    assert waits == [1, 2]

    def away() -> None:
        raise StoreUnavailable("away for good", next="bilten status")

    waits.clear()
    result = run(away)
    assert not result.success
    assert len(result.get_step_failure_events()) == 1
    assert [event.step_key for event in result.all_events if event.is_step_up_for_retry] == ["worked"] * 3
    assert told(result) == ["away for good"]


def test_lasting_trouble_and_defects_are_not(waits: list[int]) -> None:
    def refuse() -> None:
        raise Refused("a wrong key", next="put the right one")

    assert told(run(refuse)) == ["a wrong key"]

    def fail() -> None:
        raise ZeroDivisionError("a defect")

    assert not run(fail).success
    assert waits == []


def test_an_interrupt_is_no_reason_to_try_again(waits: list[int]) -> None:
    """Of "Terminate" in the UI, or of services that are stopped: dagster decides what the run is then."""
    tried = []

    def work() -> None:
        tried.append(1)
        signal.raise_signal(signal.SIGINT)

    result = run(work)
    assert (tried, waits) == ([1], [])
    (failed,) = result.get_step_failure_events()
    assert failed.step_failure_data.error is not None
    assert failed.step_failure_data.error.cls_name == "DagsterExecutionInterruptedError"
    assert not result.success
