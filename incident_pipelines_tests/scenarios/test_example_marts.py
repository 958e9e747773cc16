"""The example's marts say what its events say, however late, shuffled and doubled these arrive."""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.example.events import TOPICS, Event
from incident_pipelines.example.history import History
from incident_pipelines.example.plans import PLANS
from incident_pipelines.example.progress import minute_of
from incident_pipelines.example.visits import World
from incident_pipelines.stages.landing.append import LogAppender
from incident_pipelines.stages.prepare import prepare_warehouse
from incident_pipelines.stages.publication.publish import PublishedWindow
from incident_pipelines.stages.publication.refresh import refresh, stale_windows
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

START = datetime(2026, 11, 2, 21, 0, tzinfo=UTC)
HOURS = 6  # over a midnight
RATE = 0.1
STATUS_BY_STEP = (
    ("account_activated", "activated"),
    ("registration_failed", "failed"),
    ("payment_failed", "failed"),
    ("payment_captured", "captured"),
    ("payment_authorized", "authorized"),
)


def test_marts_equal_what_the_events_say(own_databases: Databases, rng: random.Random) -> None:
    catalog = load_catalog({"INCIDENT_PIPELINES_START": "2026-11-01"})
    url = own_databases.url("warehouse")
    prepare_warehouse(url, catalog)
    first = minute_of(START)
    events = History(World(rng.randrange(1_000), RATE), first, first).advance(first + HOURS * 60).events
    sent = [*events, *rng.sample(events, len(events) // 10)]
    rng.shuffle(sent)
    appender = LogAppender(url, catalog)
    _append_plans(appender)
    engine = postgres_engine(own_databases.url("warehouse", "publisher"), "test")
    parts = 3
    for part in range(parts):
        for topic in TOPICS:
            arriving = [event for event in sent[part::parts] if event.topic == topic]
            appender.append(topic, [(event.time_us // 1000, None, event.value) for event in arriving])
        while stale_windows(engine, catalog):
            for outcome in refresh(engine, catalog, owner="test"):
                assert isinstance(outcome, PublishedWindow), outcome
    appender.close()
    engine.dispose()

    decoded = [json.loads(event.value, parse_float=Decimal, parse_int=Decimal) for event in events]
    assert query(url, "SELECT count(*) FROM raw.registrations")[0][0] == _count(events, "registrations")
    assert query(url, "SELECT count(*) FROM raw.payments")[0][0] == _count(events, "payments")
    assert query(url, "SELECT count(*) FROM raw.page_views")[0][0] == _count(events, "page_views")
    revenue = query(url, "SELECT day, plan_id, currency, revenue, payments FROM marts.revenue")
    assert {row[:3]: row[3:] for row in revenue} == _revenue(decoded)
    cases = _cases(decoded)
    final = query(url, "SELECT registration_id::text, day, status, activated_at FROM marts.registrations_final")
    assert {row[0]: row[1:] for row in final} == {
        case: (_day(steps["registration_submitted"]), _status(steps), _instant(steps.get("account_activated")))
        for case, steps in cases.items()
    }
    funnel = query(url, "SELECT day, stage, sum(registrations)::bigint FROM marts.registration_funnel GROUP BY 1, 2")
    stages = Counter(
        (_day(steps["registration_submitted"]), step) for steps in cases.values() for step in steps if step in _STAGES
    )
    assert {(day, stage): number for day, stage, number in funnel} == {
        (day, _STAGES[step]): number for (day, step), number in stages.items()
    }


_STAGES = {
    "registration_submitted": "submitted",
    "registration_created": "created",
    "payment_initiated": "payment_initiated",
    "payment_authorized": "authorized",
    "payment_captured": "captured",
    "account_activated": "activated",
    "invoice_issued": "invoiced",
    "registration_failed": "failed",
}


def _append_plans(appender: LogAppender) -> None:
    images = [
        {
            "plan_id": plan.plan_id,
            "name": plan.plan_id,
            "currency": "EUR",
            "amount": 1,
            "updated_at": "2026-11-01T00:00:00Z",
        }
        for plan in PLANS
    ]
    appender.append("app_plans", [(0, None, json.dumps(image).encode()) for image in images], kind="extract")


def _count(events: Iterable[Event], topic: str) -> int:
    return sum(1 for event in events if event.topic == topic)


def _revenue(decoded: Iterable[dict[str, Any]]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    captured: dict[tuple[Any, ...], list[Decimal]] = defaultdict(list)
    for event in decoded:
        if event["event_type"] == "payment_captured":
            captured[_day(event["created_at"]), event["plan_id"], event["currency"]].append(event["amount"])
    return {key: (sum(amounts), len(amounts)) for key, amounts in captured.items()}


def _cases(decoded: Iterable[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Registration → step → when it was taken first; of what was submitted."""
    steps: dict[str, dict[str, str]] = defaultdict(dict)
    for event in decoded:
        if "registration_id" in event:
            taken = steps[event["registration_id"]]
            taken[event["event_type"]] = min(event["created_at"], taken.get(event["event_type"], "9"))
    return {case: taken for case, taken in steps.items() if "registration_submitted" in taken}


def _status(steps: dict[str, str]) -> str:
    return next((status for step, status in STATUS_BY_STEP if step in steps), "initiated")


def _day(text: str) -> date:
    return date.fromisoformat(text[:10])


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
