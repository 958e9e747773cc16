"""Rows that their source no longer has leave raw, with care: asked for twice, never on an empty answer, and undone."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.core.contracts.model import RowsContract
from incident_pipelines.core.errors import RecoveryStopped
from incident_pipelines.core.incidents.incident import Actor, State
from incident_pipelines.core.incidents.scope import Affected
from incident_pipelines.core.reconciliation.declaration import parse_reconciliation
from incident_pipelines.core.recovery.deletes import FEW_ROWS, MissedDeletes
from incident_pipelines.core.recovery.plan import RecoveryPlan
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.incidents import by_hand
from incident_pipelines.stages.landing.extract import extract_window
from incident_pipelines.stages.publication.refresh import refresh
from incident_pipelines.stages.recovery.missed_deletes import NotRemovable, find_missed_deletes, restore, tombstone
from incident_pipelines.stages.recovery.remove_deletes import remove, remove_missed_deletes, take_back
from incident_pipelines.stages.recovery.work import Work, lead
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import query
from incident_pipelines_tests.stages.shop import NOW, Shop, close_shop, ids, instant, open_shop

pytestmark = pytest.mark.stack

HOUR = TimeWindow.hour_of(instant("10T10"))
PERSON = Actor("person", "Ada", "ada")
RUN = Actor("run", "r-1")
RECONCILIATION = """
name: shop_warehouse
owner: shop team
source: {source: shop, table: public.payments}
target: {source: warehouse, table: raw.payments}
key: [payment_id]
columns: [amount]
time: created_at
changed: updated_at
"""
TABLES = """
CREATE TABLE public.payments (payment_id bigint PRIMARY KEY, order_id text, transaction_id text, amount numeric(12,2),
    settled boolean, due date, created_at timestamptz, updated_at timestamptz);
GRANT SELECT ON public.payments TO source_reader;
"""


@pytest.fixture(scope="module")
def opened(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = open_shop(databases, tmp_path_factory.mktemp("shop"))
    change(shop, TABLES)
    yield shop
    close_shop(shop)


@pytest.fixture
def shop(opened: Shop) -> Shop:
    empty(opened)
    return opened


@pytest.fixture
def control(databases: Databases, opened: Shop) -> Iterator[Engine]:
    engine = postgres_engine(databases.environment("publisher")["CONTROL_DATABASE_URL"], "tests")
    yield engine
    engine.dispose()


def empty(shop: Shop) -> None:
    change(shop, "TRUNCATE payments")
    with shop.owner.begin() as connection:
        connection.exec_driver_sql("SELECT set_config('incident_pipelines.confirmed', 'raw.payments', true)")
        connection.exec_driver_sql(
            "DELETE FROM raw.payments; TRUNCATE landing.payments, landing.hours, landing.chunks, landing.watermarks, "
            "publication.windows, publication.inputs, landing.quarantine"
        )


def change(shop: Shop, sql: str) -> None:
    with shop.source.begin() as connection:
        connection.exec_driver_sql(sql)


def pay(shop: Shop, first: int, last: int | None = None, created: str = "10T10", updated: str = "12T10") -> None:
    change(
        shop,
        "INSERT INTO payments SELECT n, 'o' || n, 't' || n, 5.25, true, '2026-04-01', "
        f"'{instant(created).isoformat()}', '{instant(updated).isoformat()}' "
        f"FROM generate_series({first}, {last or first}) n",
    )


def payments(shop: Shop) -> RowsContract:
    contract = shop.catalog.landed["payments"]
    assert isinstance(contract, RowsContract)
    return contract


def extract(shop: Shop, now: datetime = NOW) -> int:
    return extract_window(shop.source, shop.warehouse, shop.catalog, payments(shop), HOUR, now=now).appended


def find(shop: Shop, now: datetime = NOW, agreed: int | None = None) -> MissedDeletes:
    return find_missed_deletes(shop.source, shop.warehouse, payments(shop), [HOUR], now, agreed=agreed)


def bury(shop: Shop, keys: tuple[str, ...], now: datetime = NOW, note: str = "INC-1") -> int:
    return tombstone(shop.source, shop.warehouse, payments(shop), keys, note, now)


def raw(shop: Shop) -> set[int]:
    list(refresh(shop.warehouse, shop.catalog, owner="t"))
    return ids(shop.rows("SELECT payment_id FROM raw.payments"))


def test_rows_that_are_gone_are_found_removed_once_and_taken_back(shop: Shop) -> None:
    pay(shop, 1, 60)
    extract(shop)
    assert raw(shop) == set(range(1, 61))
    change(shop, "DELETE FROM payments WHERE payment_id IN (7, 8)")
    found = find(shop)
    assert [(one.rows, one.source_rows, one.keys, one.refused) for one in found.windows] == [(60, 58, ("7", "8"), None)]
    assert bury(shop, found.keys) == 2
    assert bury(shop, found.keys) == 0
    assert find(shop).windows == ()
    assert raw(shop) == set(range(1, 61)) - {7, 8}
    assert shop.publish("payments", "10T10").changed_rows == 0
    assert shop.rows(
        "SELECT o.kind, o.note, l.event_type, count(*) FROM landing.payments l JOIN landing.origins o "
        "USING (origin_id) WHERE o.kind = 'correction' GROUP BY 1, 2, 3"
    ) == [("correction", "INC-1", "d", 2)]
    # What is in the log stays in the log: the bytes of the image, marked, under the hour of the row.
    assert shop.rows("SELECT DISTINCT date_trunc('hour', event_time) FROM landing.payments") == [(HOUR.start,)]
    assert restore(shop.warehouse, payments(shop), "INC-1", NOW) == 2
    assert restore(shop.warehouse, payments(shop), "INC-1", NOW) == 0
    assert raw(shop) == set(range(1, 61))


@pytest.mark.parametrize("updated", ["12T10", "12T11"])
def test_a_row_that_comes_back_at_the_source_comes_back_in_raw(shop: Shop, updated: str) -> None:
    pay(shop, 1, 60)
    extract(shop)
    change(shop, "DELETE FROM payments WHERE payment_id = 7")
    assert bury(shop, find(shop).keys) == 1
    assert 7 not in raw(shop)
    pay(shop, 7, updated=updated)
    later = NOW + timedelta(minutes=1)
    assert extract(shop, later) == 1
    assert extract(shop, later) == 0
    assert 7 in raw(shop)
    assert restore(shop.warehouse, payments(shop), "INC-1", later) == 0


def test_a_row_that_is_back_when_its_tombstone_is_written_stays(shop: Shop) -> None:
    pay(shop, 1, 60)
    extract(shop)
    change(shop, "DELETE FROM payments WHERE payment_id IN (7, 8)")
    keys = find(shop).keys
    pay(shop, 8, updated="12T11")
    assert bury(shop, keys) == 1
    assert raw(shop) == set(range(1, 61)) - {7}


def test_a_row_that_moved_to_another_window_is_not_gone(shop: Shop) -> None:
    pay(shop, 1, 60)
    extract(shop)
    change(shop, f"UPDATE payments SET created_at = '{instant('10T13').isoformat()}' WHERE payment_id = 7")
    assert find(shop).windows == ()


def test_an_empty_answer_never_deletes(shop: Shop) -> None:
    pay(shop, 1)
    extract(shop)
    change(shop, "DELETE FROM payments")
    for agreed in (None, 100):
        found = find(shop, agreed=agreed)
        assert found.keys == ()
        assert "an empty answer never deletes" in str(found.refused[0].refused)


def test_too_large_a_share_or_number_needs_a_person(shop: Shop) -> None:
    pay(shop, 1, 60)
    extract(shop)
    change(shop, "DELETE FROM payments WHERE payment_id <= 4")
    assert "4 of 60 rows would go, more than 5%" in str(find(shop).refused[0].refused)
    assert find(shop, agreed=4).keys == ("1", "2", "3", "4")
    assert "more than 3 rows" in str(find(shop, agreed=3).refused[0].refused)
    change(shop, "DELETE FROM payments WHERE payment_id > 4 + 2")
    pay(shop, 3, 4)
    assert len(find(shop, agreed=1_000).keys) == 60 - 4


def test_what_is_young_is_left_alone(shop: Shop) -> None:
    pay(shop, 1, 60)
    extract(shop)
    change(shop, f"DELETE FROM payments WHERE payment_id <= {FEW_ROWS}")
    assert find(shop, now=HOUR.start + timedelta(minutes=14)).windows == ()
    assert len(find(shop, now=HOUR.start + timedelta(minutes=16)).keys) == FEW_ROWS


def test_each_removal_is_intended_told_and_can_be_undone(shop: Shop, control: Engine, databases: Databases) -> None:
    pay(shop, 1, 60)
    extract(shop)
    report = by_hand.Report("corruption", "rows are gone", ("payments",))
    incident_id = by_hand.open_incident(control, shop.catalog, report, PERSON, NOW).incident_id

    def removed(agreed: int | None = None) -> tuple[int, int]:
        places = ("payments", [HOUR], PERSON, NOW)
        done = remove(control, shop.warehouse, shop.catalog, shop.variables, incident_id, *places, agreed=agreed)
        return done.removed, len(done.refused)

    assert removed() == (0, 0)
    change(shop, "DELETE FROM payments WHERE payment_id <= 10")
    assert removed() == (0, 1)
    assert removed(agreed=10) == (10, 0)
    assert removed() == (0, 0)
    assert raw(shop) == set(range(11, 61))
    assert take_back(control, shop.warehouse, shop.catalog, incident_id, "payments", PERSON, NOW) == 10
    assert raw(shop) == set(range(1, 61))
    actions = query(databases.url("control"), "SELECT kind, state, attempts FROM incidents.actions ORDER BY action_id")
    assert actions == [("remove_missed_deletes", "done", 2), ("restore_removed_rows", "done", 1)]
    told = query(
        databases.url("control"), "SELECT text FROM incidents.timeline WHERE kind = 'action_done' ORDER BY entry"
    )
    assert told[0] == ("10 rows of payments removed that shop no longer has",)
    with pytest.raises(NotRemovable, match="'orders' is not read from a table"):
        remove(control, shop.warehouse, shop.catalog, shop.variables, incident_id, "orders", [HOUR], PERSON, NOW)


def test_a_recovery_removes_what_its_reconciliation_calls_unexpected(
    shop: Shop, control: Engine, databases: Databases
) -> None:
    pay(shop, 1, 60)
    extract(shop)
    raw(shop)
    change(shop, "DELETE FROM payments WHERE payment_id <= 2")
    declared, _ = parse_reconciliation("r.yaml", RECONCILIATION)
    catalog = replace(shop.catalog, reconciliations={declared.name: declared})
    report = by_hand.Report("corruption", "rows are gone at their source", ("payments",))
    incident_id = by_hand.open_incident(control, catalog, report, PERSON, NOW).incident_id
    told: list[str] = []
    work = Work(
        control, shop.warehouse, catalog, shop.variables, incident_id, RUN, "t", report=told.append, clock=lambda: NOW
    )
    plan = RecoveryPlan(
        incident_id=incident_id,
        revision=1,
        attempt=1,
        publishes=(Affected("payments", HOUR, "differences lie in it"), Affected("order_states", HOUR, "made from it")),
        remove=(declared.name,),
    )
    with pytest.raises(RecoveryStopped):
        remove_missed_deletes(work, plan)
    states: list[State] = ["detected", "contained", "scoped", "planned", "recovering"]
    with control.begin() as connection:
        for before, after in pairwise(states):
            lead(connection, work, before, after, after, None)
    assert remove_missed_deletes(work, replace(plan, remove=())) == []
    assert 1 in raw(shop)
    assert remove_missed_deletes(work, plan) == []
    assert remove_missed_deletes(work, plan) == []
    assert raw(shop) == set(range(3, 61))
    outcome = query(
        databases.url("control"),
        "SELECT outcome ->> 'removed' FROM incidents.actions WHERE incident_id = %s",
        incident_id,
    )
    assert outcome == [("2",)]
    away = replace(work, environment={**shop.variables, "APP_DATABASE_URL": "postgresql+psycopg://x@127.0.0.1:1/x"})
    (refused,) = remove_missed_deletes(away, plan)
    assert "payments: deleted rows could not be looked for: shop database cannot be reached" in refused


@dataclass
class _Model:
    """Steps in any order, at a clock that goes on."""

    shop: Shop
    now: datetime = NOW
    kept: dict[int, str] = field(default_factory=dict[int, str])

    def step(self, what: str, key: int) -> None:
        self.now += timedelta(seconds=1)
        match what:
            case "insert":
                change(
                    self.shop,
                    f"INSERT INTO payments VALUES ({key}, 'o', NULL, {key}, true, NULL, "
                    f"'{HOUR.start.isoformat()}', '{self.now.isoformat()}') ON CONFLICT (payment_id) DO UPDATE "
                    "SET updated_at = excluded.updated_at",
                )
            case "delete":
                change(
                    self.shop,
                    f"DELETE FROM bin b USING payments p WHERE p.payment_id = {key} AND b.payment_id = {key}",
                )
                change(
                    self.shop,
                    f"WITH d AS (DELETE FROM payments WHERE payment_id = {key} RETURNING *) "
                    "INSERT INTO bin SELECT * FROM d",
                )
            case "put back":  # as it was, with the time of its last change
                change(
                    self.shop, f"INSERT INTO payments SELECT * FROM bin WHERE payment_id = {key} ON CONFLICT DO NOTHING"
                )
            case "extract":
                extract(self.shop, self.now)
            case "restore":
                restore(self.shop.warehouse, payments(self.shop), "INC-1", self.now)
            case _:
                bury(self.shop, find(self.shop, self.now, agreed=1_000).keys, self.now)


STEPS = st.sampled_from(["insert", "delete", "put back", "extract", "remove", "restore"])


@settings(
    max_examples=25,
    deadline=None,
    derandomize=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(steps=[("insert", 1), ("extract", 1), ("delete", 1), ("remove", 1), ("put back", 1)])
@example(steps=[("insert", 1), ("extract", 1), ("delete", 1), ("remove", 1), ("restore", 1), ("insert", 1)])
@given(steps=st.lists(st.tuples(STEPS, st.integers(1, 3)), max_size=14))
def test_extracts_deletes_and_tombstones_in_any_order_leave_raw_as_the_source(
    opened: Shop, steps: list[tuple[str, int]]
) -> None:
    empty(opened)
    change(opened, "DROP TABLE IF EXISTS bin; CREATE TABLE bin (LIKE payments)")
    pay(opened, 99)  # a source is never empty here
    model = _Model(opened)
    for what, key in steps:
        model.step(what, key)
    model.step("extract", 0)
    model.step("remove", 0)
    list(refresh(opened.warehouse, opened.catalog, owner="t"))
    with opened.source.connect() as connection:
        there = connection.exec_driver_sql("SELECT payment_id, updated_at FROM payments ORDER BY 1").all()
    assert opened.rows("SELECT payment_id, updated_at FROM raw.payments ORDER BY 1") == [tuple(row) for row in there]
