"""Whose work a process does, as text that no comment and no driver stumbles over."""

from __future__ import annotations

from bilten_orchestration.stores.origin import Origin, current, working_for

RUN = "0f8fad5b-d9cb-469f-a165-70867728950e"


def test_the_whole_and_the_short_form() -> None:
    origin = Origin(RUN, ("marts/dim_events", "marts/dim_dates"))
    assert origin.text == f"run={RUN} assets=marts/dim_events,marts/dim_dates"
    assert origin.short == "0f8fad5b"


def test_nothing_ends_the_comment_or_is_taken_for_a_placeholder() -> None:
    assert Origin(RUN, ("a */ drop table b; /* %s",)).text == f"run={RUN} assets=a _/ drop table b_ /_ _s"


def test_many_assets_are_cut() -> None:
    text = Origin(RUN, tuple(f"marts/mart_{number}" for number in range(100))).text
    assert len(text) < 300
    assert text.endswith("...")


def test_it_ends_with_the_step() -> None:
    assert current() is None
    with working_for(Origin(RUN, ())):
        with working_for(Origin("another", ())):
            assert (current() or Origin("", ())).run == "another"
        assert (current() or Origin("", ())).run == RUN
    assert current() is None
