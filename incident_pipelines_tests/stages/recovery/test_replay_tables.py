"""Rows of a table are replayed under the guardrails of every replay: budget, rate, kill switch, share that fails."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.adapters.databases.source_table import PAGE_ROWS
from incident_pipelines.adapters.stores.incidents import insert_incident
from incident_pipelines.adapters.stores.incidents_work import latest_plan, store_plan
from incident_pipelines.core.errors import GuardrailReached, RecoveryStopped, SourceUnavailable
from incident_pipelines.core.incidents.incident import Actor, Incident
from incident_pipelines.core.recovery.coverage import DATABASE_EXTRACT
from incident_pipelines.core.recovery.guardrails import Guardrails
from incident_pipelines.core.recovery.plan import Choice, Replay
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.recovery.replay import ReplayedSpan, Replayer
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query
from incident_pipelines_tests.stages.shop import NOW, Shop, close_shop, instant, open_shop

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

RUN = Actor("run", "r-1")
HOUR = TimeWindow.hour_of(instant("10T10"))
ROWS = 2 * PAGE_ROWS + 100
FREE = Guardrails(None, 10 * ROWS)


@dataclass
class Recovery:
    """An incident whose plan replays an hour of `payments` from their table."""

    shop: Shop
    databases: Databases
    control: Engine
    incident_id: str
    plan_id: int

    def pay(self, amount: str = "5.25") -> None:
        """Put rows into the table; `n` is the number of the row."""
        with self.shop.source.begin() as connection:
            connection.exec_driver_sql(
                f"INSERT INTO payments SELECT n, 'o' || n, 't' || n, {amount}, true, '2026-04-01', "
                f"'{HOUR.start.isoformat()}', '{instant('12T10').isoformat()}' FROM generate_series(1, {ROWS}) n"
            )

    def replay(self, limits: Guardrails = FREE, check: Callable[[], None] = lambda: None) -> ReplayedSpan:
        """Carry out the plan."""
        choices = (Choice(DATABASE_EXTRACT, True, None, None, False, True, None, "a test"),)
        replayer = Replayer(
            self.control,
            self.shop.warehouse,
            self.shop.catalog,
            self.shop.variables,
            self.incident_id,
            self.plan_id,
            limits,
            check=check,
            clock=lambda: NOW,
        )
        (span,) = replayer.replay([Replay("payments", HOUR, None, choices)])
        return span

    def landed(self) -> int:
        """Number of rows in the log; each is there once."""
        ((rows, different),) = self.shop.rows("SELECT count(*), count(DISTINCT event_id) FROM landing.payments")
        assert rows == different
        return rows

    def budget(self) -> tuple[int, int, int]:
        """(taken, replayed, failed)"""
        (budget,) = query(self.databases.url("control"), "SELECT taken, replayed, failed FROM incidents.budgets")
        return budget


@pytest.fixture
def recovery(own_databases: Databases, tmp_path: Path) -> Iterator[Recovery]:
    shop = open_shop(own_databases, tmp_path)
    with shop.source.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE public.payments (payment_id bigint PRIMARY KEY, order_id text, transaction_id text, "
            "amount numeric(12,2), settled boolean, due date, created_at timestamptz, updated_at timestamptz)"
        )
        connection.exec_driver_sql("GRANT SELECT ON public.payments TO source_reader")
    control = postgres_engine(shop.variables["CONTROL_DATABASE_URL"], "tests")
    with control.begin() as connection:
        incident = Incident(
            incident_id="",
            type="data_loss",
            cause="reported",
            severity="P3",
            state="detected",
            title="payments are missing",
            source="person",
            datasets=("payments",),
            window=None,
            began_at=NOW,
            detected_at=NOW,
            opened_at=NOW,
        )
        incident_id = insert_incident(connection, incident, RUN, "opened", NOW).incident_id
        store_plan(connection, incident_id, "0" * 64, 1, {}, RUN, NOW)
        plan = latest_plan(connection, incident_id)
    assert plan is not None
    yield Recovery(shop, own_databases, control, incident_id, plan.plan_id)
    control.dispose()
    close_shop(shop)


def test_no_more_rows_are_appended_than_the_budget_has(recovery: Recovery) -> None:
    recovery.pay()
    with pytest.raises(GuardrailReached, match=f"{PAGE_ROWS + 1:,} events in all"):
        recovery.replay(Guardrails(None, PAGE_ROWS + 1))
    assert recovery.landed() == PAGE_ROWS
    assert recovery.budget() == (PAGE_ROWS, PAGE_ROWS, 0)


def test_rows_wait_for_their_turn_and_those_that_the_log_has_take_none(recovery: Recovery) -> None:
    recovery.pay()
    rate = 4 * ROWS
    free_at = "SELECT free_at FROM incidents.pace"
    control, began, clock = recovery.databases.url("control"), datetime.now(UTC), time.monotonic()
    span = recovery.replay(Guardrails(rate, ROWS))
    assert time.monotonic() - clock >= ROWS / rate
    assert (span.read, span.appended, span.failed, span.unavailable) == (ROWS, ROWS, 0, None)
    ((taken_until,),) = query(control, free_at)
    assert (taken_until - began).total_seconds() >= ROWS / rate
    again = recovery.replay(Guardrails(ROWS / 3600, ROWS))  # a turn would last an hour
    assert (again.read, again.appended) == (ROWS, 0)
    ((taken_until,),) = query(control, free_at)
    assert taken_until <= datetime.now(UTC)
    assert (recovery.landed(), recovery.budget()) == (ROWS, (ROWS, ROWS, 0))


def test_what_is_stopped_appends_no_further_page_and_goes_on_there(recovery: Recovery) -> None:
    recovery.pay()

    def stopped_after_a_page() -> None:
        if recovery.landed():
            raise RecoveryStopped("not now")

    with pytest.raises(RecoveryStopped):
        recovery.replay(check=stopped_after_a_page)
    assert recovery.landed() == PAGE_ROWS
    assert recovery.replay().appended == ROWS - PAGE_ROWS
    assert recovery.landed() == ROWS


def test_rows_that_break_their_contract_are_counted_and_end_it_where_they_are_too_many(recovery: Recovery) -> None:
    recovery.pay("CASE WHEN mod(n, 100) = 0 THEN -1 ELSE 5.25 END")
    failed = ROWS // 100
    span = recovery.replay()
    assert (span.appended, span.failed) == (ROWS, failed)
    assert recovery.budget() == (ROWS, ROWS, failed)
    with recovery.shop.source.begin() as connection:
        connection.exec_driver_sql("UPDATE payments SET amount = -2, updated_at = updated_at + interval '1 hour'")
    with pytest.raises(GuardrailReached, match="replayed events break their contract"):
        recovery.replay()
    assert recovery.shop.rows("SELECT count(*) FROM landing.payments") == [(ROWS + PAGE_ROWS,)]


def test_a_table_that_stops_answering_says_what_was_brought_back_until_then(recovery: Recovery) -> None:
    recovery.pay()
    cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'source_reader'"

    def cut_off_after_a_page() -> None:
        if recovery.landed():
            query(recovery.databases.url("app"), f"{cut} AND datname = current_database()")

    span = recovery.replay(check=cut_off_after_a_page)
    assert "shop database cannot be reached" in str(span.unavailable)
    assert (span.read, span.appended) == (2 * PAGE_ROWS, 2 * PAGE_ROWS) == (recovery.landed(),) * 2
    rest = recovery.replay()
    assert (rest.read, rest.appended, rest.unavailable) == (ROWS, ROWS - 2 * PAGE_ROWS, None)
    assert recovery.landed() == ROWS


def test_a_database_of_our_own_that_does_not_answer_ends_the_replay(recovery: Recovery) -> None:
    recovery.pay()

    def nothing_to_ask() -> None:
        if recovery.landed():
            raise SourceUnavailable("control database cannot be reached")

    with pytest.raises(SourceUnavailable, match="control database"):
        recovery.replay(check=nothing_to_ask)
    assert recovery.landed() == PAGE_ROWS
