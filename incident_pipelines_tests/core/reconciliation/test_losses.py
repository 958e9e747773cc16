"""What a stated loss may leave in a reconciliation: nothing but what its target is made from."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.reconciliation.losses import StatedLoss, losses_in
from incident_pipelines.core.windows import DAY, HOUR, TimeWindow
from incident_pipelines_tests.builders import EVENTS_YAML, write_catalog

CATALOG = "name: shop\nstart: 2026-01-01T00:00:00Z\nsources: {bank: BANK_URL}\n"
TOTALS = """\
apiVersion: v3.1.0
kind: DataContract
id: totals
name: totals
version: 1.0.0
status: active
team: {name: analytics}
customProperties:
- {property: dataset, value: mart}
- {property: inputs, value: [orders]}
- {property: primaryKey, value: [order_id]}
- {property: day, value: day}
- {property: reachDays, value: 2}
schema:
- name: totals
  logicalType: object
  properties:
  - {name: order_id, logicalType: string, required: true, primaryKey: true}
  - {name: day, logicalType: date, required: true}
"""
TOTALS_SQL = (
    "SELECT order_id, CAST(occurred_at AS date) AS day FROM raw.orders "
    "WHERE occurred_at >= :window_start AND occurred_at < :window_end"
)
SIDES = {
    "bank": "{source: bank, table: public.orders}",
    "vault": "{source: bank, table: raw.orders}",
    "raw": "{source: warehouse, table: raw.orders}",
    "mart": "{source: warehouse, table: marts.totals}",
    "sql": "{source: warehouse, sql: paid.sql}",
}
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def hour(number: int) -> TimeWindow:
    return TimeWindow(NOON + number * HOUR, NOON + (number + 1) * HOUR)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A reconciliation for each pair of sides, SOURCE_TARGET."""
    folder: Path = tmp_path_factory.mktemp("catalog")
    files = {
        **{f"{name}.yaml": EVENTS_YAML.format(name=name, topic=name) for name in ("orders", "visits")},
        "marts/totals.yaml": TOTALS,
        "sql/marts/totals.sql": TOTALS_SQL,
        "sql/reconciliation/paid.sql": "SELECT o.order_id FROM raw.orders o WHERE o.event_type = 'paid'",
    }
    for source in SIDES:
        for target in SIDES:
            name = f"{source}_{target}"
            files[f"reconciliations/{name}.yaml"] = (
                f"name: {name}\nowner: o\nsource: {SIDES[source]}\ntarget: {SIDES[target]}\nkey: [order_id]\n"
            )
    return load_catalog(write_catalog(folder, files, CATALOG))


def losses(catalog: Catalog, name: str, *gone: tuple[str, TimeWindow, int]) -> tuple[StatedLoss, ...]:
    return losses_in(catalog, catalog.reconciliations[name], "INC-1", gone)


@pytest.mark.parametrize("target", ["raw", "sql"])
def test_a_row_of_raw_is_missing_where_its_event_is_gone(catalog: Catalog, target: str) -> None:
    found = losses(catalog, f"bank_{target}", ("orders", hour(0), 3), ("visits", hour(5), 9))
    assert found == (StatedLoss("INC-1", hour(0), 3, ("missing",)),)


def test_a_row_of_a_mart_may_lack_an_event_or_be_missing_as_far_as_the_mart_reaches(catalog: Catalog) -> None:
    day = TimeWindow.day_of(NOON)
    reached = TimeWindow(day.start - 2 * DAY, day.end)
    found = losses(catalog, "bank_mart", ("orders", hour(0), 3), ("visits", hour(0), 9))
    assert found == (StatedLoss("INC-1", reached, 3, ("missing", "mismatched")),)


@pytest.mark.parametrize("name", ["raw_bank", "mart_bank", "bank_bank", "bank_vault"])
def test_what_is_lost_on_the_other_side_makes_no_row_of_the_target_missing(catalog: Catalog, name: str) -> None:
    assert losses(catalog, name, ("orders", hour(0), 3)) == ()


def test_what_touches_is_one_loss_and_what_is_apart_is_not(catalog: Catalog) -> None:
    gone = [("orders", hour(number), events) for number, events in ((4, 8), (1, 2), (0, 1), (5, 16))]
    assert losses(catalog, "bank_raw", *gone) == (
        StatedLoss("INC-1", TimeWindow(hour(0).start, hour(1).end), 3),
        StatedLoss("INC-1", TimeWindow(hour(4).start, hour(5).end), 24),
    )
    # Days of a mart that are made from both losses lack the events of both.
    assert [one.events for one in losses(catalog, "bank_mart", *gone)] == [27]
