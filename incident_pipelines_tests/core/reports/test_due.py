"""Which reports are due when; the clock is given."""

from dataclasses import replace
from datetime import timedelta

import pytest

from incident_pipelines.core.reports.due import due_reports, slug
from incident_pipelines_tests.core.reports.facts import MINUTE, NOON, entry, facts


def names(*args: object, **changes: object) -> list[str]:
    return [one.name for one in due_reports(facts(*args, **changes))]  # type: ignore[arg-type]


def test_each_state_owes_its_update_and_the_notes_go_out_with_the_scope() -> None:
    notes = ["note-finance", "note-billing-team", "note-web-team", "note-growth", "note-executives"]
    assert names("detected") == ["01-detected"]
    assert names("contained") == ["01-detected"]
    assert names("scoped") == ["01-detected", "02-scoped", *notes]
    assert names("planned") == ["01-detected", "02-scoped", "03-plan", *notes]
    assert names("recovered", after=25 * MINUTE) == [
        "01-detected",
        "02-scoped",
        "03-plan",
        "04-recovered",
        "loss-statement",
        *notes,
        "restatement-sales",
        "postmortem",
    ]


@pytest.mark.parametrize(("minutes", "number"), [(29, None), (30, 1), (59.9, 1), (60, 2), (24 * 60, 48)])
def test_one_progress_update_every_30_minutes_while_it_is_open(minutes: float, number: int | None) -> None:
    expected = [] if number is None else [f"progress-{number}"]
    after = timedelta(minutes=minutes)
    assert [name for name in names("recovering", after=after) if name.startswith("progress")] == expected
    assert [name for name in names("escalated", after=after) if name.startswith("progress")] == expected
    assert not [name for name in names("recovered", after=after) if name.startswith("progress")]


def test_what_happens_again_is_told_again_and_what_was_missed_is_not() -> None:
    again = facts("scoped")
    more = [entry(n, "state_changed", "contained", "scoped", "again") for n in (10, 11)]
    found = [one.name for one in due_reports(replace(again, entries=(*again.entries, *more)))]
    assert "02-scoped-3" in found
    assert "02-scoped" not in found
    assert "02-scoped-2" not in found


def test_an_escalation_is_one_alert_and_a_second_one_another() -> None:
    assert names("escalated").count("escalated") == 1
    once = facts("escalated")
    twice = replace(once, entries=(*once.entries, entry(9, "state_changed", "detected", "escalated", "again")))
    assert "escalated-2" in [one.name for one in due_reports(twice)]


def test_notes_are_made_again_when_the_loss_is_known_and_the_postmortem_when_it_is_resolved() -> None:
    def basis(found: object) -> dict[str, str]:
        return {one.name: one.basis for one in due_reports(found)}  # type: ignore[arg-type]

    before, after = basis(facts("scoped")), basis(facts("recovered"))
    assert before["note-finance"] != after["note-finance"]
    assert basis(facts("resolved"))["postmortem"] != after["postmortem"]
    assert basis(facts("resolved"))["loss-statement"] == after["loss-statement"]


def test_nothing_is_stated_while_the_next_source_is_tried() -> None:
    trying = replace(facts("planned"), loss=facts("recovered").loss)
    assert not {"loss-statement", "note-growth", "restatement-sales"} & {one.name for one in due_reports(trying)}
    given_up = replace(trying, incident=replace(trying.incident, state="escalated"))
    assert "loss-statement" in [one.name for one in due_reports(given_up)]


def test_a_name_of_a_group_is_a_part_of_a_path_and_two_names_stay_two() -> None:
    assert slug("Shop team") == "shop-team"
    assert slug("../../etc/passwd") == "etc-passwd"
    assert slug("財務") != slug("法務")
    assert all(len(slug(name)) <= 60 for name in ("x" * 500, "財務" * 300))
    assert NOON  # the clock is never read


def test_nobody_is_told_of_windows_where_none_is_touched() -> None:
    watched = facts("recovered")
    assert watched.scope is not None
    untouched = replace(watched, scope=replace(watched.scope, suspects=(), downstream=()))
    assert not [one.name for one in due_reports(untouched) if one.name.startswith("note")]
