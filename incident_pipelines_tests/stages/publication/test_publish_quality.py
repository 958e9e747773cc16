"""A mart whose contract has a SELECT of its own: what it counts refuses the day, and mending the SQL is enough."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.core.errors import InvalidDocument, WindowRefused
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.stages.recovery.window_causes import window_causes
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.stages.shop import Shop, close_shop, instant, open_shop, order

pytestmark = pytest.mark.stack

QUALITY = """\
- name: turnover
  logicalType: object
  quality:
  - {type: sql, name: turnover_is_what_was_ordered, query: turnover_is_what_was_ordered.sql, mustBe: 0}
"""
WHAT_WAS_ORDERED = """\
-- Whether the day's turnover is not what was ordered on it.
SELECT count(*) FROM (SELECT sum(s.amount) AS told FROM staged s) t,
    (SELECT sum(o.amount) AS ordered FROM raw.orders o WHERE o.occurred_at >= :window_start
     AND o.occurred_at < :window_end) r
WHERE t.told IS DISTINCT FROM r.ordered;
"""


@pytest.fixture
def shop(own_databases: Databases, tmp_path: Path) -> Iterator[Shop]:
    shop = open_shop(own_databases, tmp_path)
    contract = tmp_path / "marts" / "turnover.yaml"
    contract.write_text(contract.read_text().replace("- name: turnover\n  logicalType: object\n", QUALITY))
    write(shop, "quality/turnover_is_what_was_ordered.sql", WHAT_WAS_ORDERED)
    shop.plans("basic")
    yield shop
    close_shop(shop)


def write(shop: Shop, name: str, sql: str) -> None:
    """Deploy SQL."""
    path = Path(shop.variables["INCIDENT_PIPELINES_SQL"]) / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(sql)
    shop.catalog = load_catalog(shop.variables)


def cause(shop: Shop) -> str:
    (found,) = window_causes(shop.warehouse, shop.catalog, [("turnover", TimeWindow.day_of(instant("10")))]).values()
    return found


def test_a_transform_that_makes_up_money_is_refused_until_it_is_mended(shop: Shop) -> None:
    right = shop.catalog.marts["turnover"].sql
    shop.append("orders", order("a", "10T10"), order("b", "10T11"))
    shop.publish("orders", "10T10")
    shop.publish("orders", "10T11")
    done = shop.publish("turnover", "10")
    assert [(r.unexpected, r.passed) for r in done.results if r.rule == "turnover_is_what_was_ordered"] == [(0, True)]
    write(shop, "marts/turnover.sql", right.replace("sum(o.amount)", "sum(o.amount) * 100"))
    broken = cause(shop)
    with pytest.raises(WindowRefused, match=r"turnover_is_what_was_ordered: 1 of 1 rows"):
        shop.publish("turnover", "10")
    assert shop.rows("SELECT amount FROM marts.turnover") == [(Decimal("19.98"),)]
    # No rows at all is wrong as well.
    write(shop, "marts/turnover.sql", right.replace("'ordered'", "'renamed'"))
    with pytest.raises(WindowRefused):
        shop.publish("turnover", "10")
    write(shop, "marts/turnover.sql", right)
    assert cause(shop) != broken
    assert shop.publish("turnover", "10").changed_rows == 0
    # A query that is mended is worth another try as well.
    mended = cause(shop)
    write(shop, "quality/turnover_is_what_was_ordered.sql", WHAT_WAS_ORDERED + "-- mended\n")
    assert cause(shop) != mended


def test_inputs_published_between_building_and_checking_refuse_nothing(shop: Shop) -> None:
    shop.append("orders", order("a", "10T10"))
    shop.publish("orders", "10T10")
    late = [order("late", "10T10")]

    @event.listens_for(shop.warehouse, "before_cursor_execute")
    def publish_meanwhile(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "IS DISTINCT FROM r.ordered" in statement and late:
            shop.append("orders", late.pop())
            shop.publish("orders", "10T10")

    assert shop.publish("turnover", "10").rows == 1
    assert not late
    assert shop.rows("SELECT amount FROM marts.turnover") == [(Decimal("19.98"),)]
    assert shop.rows("SELECT 1 FROM landing.facts WHERE kind = 'window_refused'") == []


def test_what_is_no_number_is_an_error_and_never_a_verdict(shop: Shop) -> None:
    shop.append("orders", order("a", "10T10"))
    shop.publish("orders", "10T10")
    file = "quality/turnover_is_what_was_ordered.sql"
    for sql in ("SELECT -1", "SELECT NULL", "SELECT 'none'", "SELECT 1 WHERE false", "SELECT 0, 0"):
        write(shop, file, sql)
        with pytest.raises(InvalidDocument, match=f"sql/{file} has to give"):
            shop.publish("turnover", "10")
    assert shop.rows("SELECT 1 FROM publication.windows WHERE dataset = 'turnover'") == []
    (Path(shop.variables["INCIDENT_PIPELINES_SQL"]) / file).unlink()
    with pytest.raises(InvalidDocument, match=rf"turnover\.yaml:1: sql/{file} is missing"):
        load_catalog(shop.variables)
