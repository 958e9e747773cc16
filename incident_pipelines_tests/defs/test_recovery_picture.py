"""The picture of the recoverability map fits where Dagster shows it."""

import base64
import re
from datetime import UTC, datetime, timedelta

from incident_pipelines.core.recovery.coverage import AUDIT_LOG, LANDING_LOG, Recoverability, counted, judged
from incident_pipelines.core.windows import TimeWindow
from incident_pipelines.defs.recovery.picture import recoverability_picture

FIRST = datetime(2026, 3, 1, tzinfo=UTC)


def day(dataset: str, number: int, *, copied: bool) -> Recoverability:
    window = TimeWindow.day_of(FIRST + timedelta(days=number))
    events = 10 if number > 20 else 0
    sources = [counted(LANDING_LOG, dataset, window, events)]
    if copied:
        sources.append(counted(AUDIT_LOG, dataset, window, events))
    return Recoverability(dataset, window, True, events, tuple(judged(one, events, settled=True) for one in sources))


def test_the_picture_is_small_enough_to_be_shown_at_once_and_shows_each_day() -> None:
    datasets = ["orders", "payments", "page_views", "customers", "invoices_of_the_past", "products"]
    days = [day(name, number, copied=name != "page_views") for name in datasets for number in range(30)]
    picture = recoverability_picture(days)
    assert len(picture) < 1_000
    found = re.fullmatch(r"!\[recoverability\]\(data:image/svg\+xml;base64,(.*)\)", picture)
    assert found
    svg = base64.b64decode(found[1]).decode()
    width = int(re.findall(r'width="(\d+)"', svg)[0])
    ends = [int(left) + int(length) for left, length in re.findall(r"M(\d+) \d+h(\d+)", svg)]
    assert max(ends) <= width <= 400
    colors = {color: path.count("M") for color, path in re.findall(r'stroke="(#\w+)" d="([^"]*)"', svg)}
    assert colors == {"#ccc": 6, "#3a7": 5, "#b32": 1}, "no data, safe and gone"
