"""What reports say: figures that are the findings', and nothing that acts."""

import re
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser

import markdown
import pytest

from incident_pipelines.adapters.report_templates import read_templates
from incident_pipelines.core.recovery.loss import DatasetLoss
from incident_pipelines.core.reports.due import REPORT_KINDS, DueReport, due_reports
from incident_pipelines.core.reports.facts import ReportFacts, Salvage
from incident_pipelines.core.reports.headline import headline
from incident_pipelines.core.reports.markdown import BadTemplate, filled, shown
from incident_pipelines.core.reports.postmortem import loss_model
from incident_pipelines.core.reports.texts import Templates, report_text
from incident_pipelines_tests.core.reports.facts import HOSTILE, MINUTE, RESTATED, facts, loss_of, statement

TEMPLATES = read_templates({})
SHOWN = "{{ 7*7 }} {% raw %} <script>alert(1)</script> [a](http://evil.example) | # @here an… - b"
SALES = facts().reported


def body(kind: str, known: ReportFacts) -> str:
    due = {one.kind: one for one in due_reports(known)}
    due.setdefault("progress", DueReport("progress-1", "progress"))
    due.setdefault("escalated", DueReport("escalated", "escalated"))
    return report_text(due[kind], known, TEMPLATES).body  # type: ignore[index]


class Rendered(HTMLParser):
    """The text of a page, and its elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.elements = "", set[str]()
        self.feed(markdown.markdown(text, extensions=["tables"]))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.elements.add(tag)


@pytest.mark.parametrize("kind", REPORT_KINDS)
def test_whatever_data_says_is_shown_as_text_in_every_report(kind: str) -> None:
    known = facts("recovered", title=HOSTILE)
    text = body(kind, known)
    page = Rendered(text)
    assert SHOWN in page.text
    assert not page.elements & {"script", "a", "img"}
    assert "ann.smith" not in text
    assert not re.search(r"\w://|@here", text)
    assert "\n" not in report_text(due_reports(known)[0], known, TEMPLATES).title


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a", "\\- a"),
        ("12. a", "12\\. a"),
        ("===", "\\==="),
        ("+1,234.50", "+1,234.50"),
        ("2.5 h", "2.5 h"),
        ("a|b\n# c", "a&#124;b \\# c"),
        ("see https://x.org/a?b", "see https&#58;//x.org/a?b"),
        ("R&D &lt; &#x1F600;", "R&D &#38;lt; &#38;\\#x1F600;"),
        ("ann@example.org left", "an… left"),
        ("\x1b[31m\u202e", "\\\\x1b\\[31m\\\\u202e"),
    ],
)
def test_a_value_is_text(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ rows.append(1) }}",
        "{{ value|safe }}",
        "{{ range(10**9) }}",
        "{% include '/etc/passwd' %}",
        "{{ nothing_of_that_name }}",
        "{% for",
    ],
)
def test_a_template_cannot_act(template: str) -> None:
    with pytest.raises(BadTemplate, match="report template own cannot be filled in"):
        filled(template, {"value": "a", "rows": [1]}, "own")


def test_a_template_of_ones_own_that_is_broken_does_not_keep_a_report() -> None:
    known = facts()
    own = replace(TEMPLATES, own={"update_detected": "{{ nope }}"})
    text = report_text(due_reports(known)[0], known, own).body
    assert "What data" in text
    assert "'nope' is undefined; the shipped one was used" in text
    own = Templates(TEMPLATES.shipped, {"update_detected": "{{ id }}: {{ title }}"})
    assert report_text(due_reports(known)[0], known, own).body == "INC-7: Events aged out\n"


@pytest.mark.parametrize(
    ("datasets", "expected"),
    [
        (
            (
                loss_of("page_views", declared=30_000_000, unrecoverable=1_200_000),
                loss_of("payments", declared=8_000_000, recovered=5),
            ),
            "1.2 M of 38 M events in the window are gone for good, all of them page views; payments fully recovered; "
            "money numbers do not move. Exact: the producers' control totals.",
        ),
        (
            (loss_of("orders", recovered=12_345),),
            "nothing is lost: 12,345 events were brought back; money numbers do not move. "
            "Exact: the producers' control totals.",
        ),
        (
            (loss_of("orders", declared=None, recovered=3, unknown_at_most=117),),
            "nothing is proved to be lost; of 117 orders at most it is not known whether they are missing; "
            "money numbers do not move. Bounds, not counts: no control totals for orders.",
        ),
        (
            (loss_of("payments", unrecoverable=1), loss_of("clicks", declared=None, unknown_at_most=None)),
            "1 event in the window is gone for good, all of them payments; how many clicks are missing is not known; "
            "sales stays without what is gone or unknown. Exact by the producers' control totals, except clicks: no "
            "totals, so offsets bound it at best.",
        ),
    ],
)
def test_the_headline_is_one_sentence_and_says_what_it_stands_on(
    datasets: tuple[DatasetLoss, ...], expected: str
) -> None:
    assert headline(statement(*datasets), SALES) == expected


def test_the_headline_names_the_numbers_that_move() -> None:
    said = headline(statement(loss_of("payments", recovered=4), restated=RESTATED), SALES)
    assert "reported numbers move: sales revenue EUR +120.50 (+0.12 %), sales revenue USD +10.00 (from nothing)" in said


def test_the_finance_note_says_what_the_findings_say() -> None:
    text = body("finance", facts("recovered"))
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| revenue", "| rows"))]
    assert len(rows) == len(RESTATED)
    for row, one in zip(rows, RESTATED, strict=True):
        column, segment, before, after, change, _ = (cell.strip("| ") for cell in row)
        assert (column, segment) == (one.column, one.segment)
        assert Decimal(before.replace(",", "")) == Decimal(one.before)
        assert Decimal(after.replace(",", "")) == Decimal(one.after)
        assert Decimal(change.replace(",", "")) == Decimal(one.after) - Decimal(one.before)
    assert "Do the money numbers move? Yes: reported numbers move" in text
    assert "Not known yet" in body("finance", facts("scoped"))


def test_a_restatement_says_how_much_since_when_and_who_decides() -> None:
    text = body("restatement", facts("recovered", after=30 * MINUTE))
    assert "| revenue | EUR | 100,000.00 | 100,120.50 | +120.50 | +0.12 % |" in text
    assert "closed and reported: 2026-02" in text
    assert (
        "wrong since 2026-03-06 11:55 UTC, known since 2026-03-06 12:00 UTC, right since 2026-03-06 12:20 UTC" in text
    )
    assert "Legal and the finance lead decide" in text


def test_a_note_tells_a_group_of_its_datasets_alone() -> None:
    known = facts("recovered")
    texts = {one.name: report_text(one, known, TEMPLATES).body for one in due_reports(known) if one.kind == "note"}
    assert "5 events are back, 15 are gone for good (exact: the producer's control totals)" in texts["note-growth"]
    assert "it will not come back" in texts["note-growth"]
    assert "## payments" not in texts["note-growth"]
    assert "read these windows again" in texts["note-billing-team"]
    assert "do not decide on these windows" in body("note", facts("scoped"))


def test_the_postmortem_computes_what_it_can_and_leaves_the_rest_open() -> None:
    known = facts("resolved", after=60 * MINUTE)
    text = body("postmortem", known)
    assert "_to fill in_" in text
    assert "from 2026-03-06 12:00:00 UTC (when it was known) to 2026-03-06 12:20:00 UTC (data proven right)" in text
    assert "| MTTD | 5 min |" in text
    assert "contained 60 s after detection, before anything else" in text
    assert "contained, recovered and proved without a person" in text
    assert "15 events gone for good" in text
    assert "SLO and error budget: not measured yet" in text
    terms = {row["name"]: row["value"] for row in loss_model(known)}
    # 1,000 declared in an hour; unseen and uncontained for 6 minutes; 105 of 120 came back.
    assert terms["λ × T × (1 − s)"] == f"{1_000 * 0.1 * (1 - 105 / 120):,.1f} events"


def test_what_is_not_known_is_said_to_be_so() -> None:
    known = replace(facts("recovered"), scope=None, loss=None)
    assert {row["name"]: row["value"] for row in loss_model(known)}["λ × T × (1 − s)"] == "not known"
    salvaged = {row["name"]: row["value"] for row in loss_model(facts("recovered", salvage=Salvage(3, 4)))}
    assert salvaged["s"] == "0.7500"
    assert "at least 100 events; at most 220, by the offsets that aged out" in body("scoped", facts("scoped"))
