"""A transform is deployed that multiplies money by 100: what it makes must be refused until the SQL is mended."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import LiteralString

from sqlalchemy import Engine

from incident_pipelines.adapters.catalog_files import sql_folder
from incident_pipelines.adapters.databases.postgres import postgres_engine
from incident_pipelines.adapters.databases.publication import raise_marks
from incident_pipelines.core.windows import DAY, TimeWindow
from incident_pipelines.example.gameday.drill import POLL_SECONDS, CannotRun, Drill
from incident_pipelines.example.gameday.measure import course_of
from incident_pipelines.example.gameday.scenario import Fault, Scenario
from incident_pipelines.stack.deployed_sql import deploy_shipped_sql, deploy_sql
from incident_pipelines.stack.locations import Home

BUGS = {
    "revenue": ("sum(p.amount) AS revenue", "sum(p.amount) * 100 AS revenue"),
    "registrations_final": ("       s.amount,\n", "       s.amount * 100 AS amount,\n"),
}
"""By mart, a part of its SQL and what a bad day makes of it."""

WRONG: Mapping[str, LiteralString] = {
    "revenue": (
        "SELECT count(*) FROM marts.revenue m WHERE m.day >= %(first)s AND m.revenue > (SELECT sum(p.amount) "
        "FROM raw.payments p WHERE p.event_type = 'payment_captured' AND p.plan_id = m.plan_id "
        "AND p.currency = m.currency AND p.created_at >= CAST(m.day AS timestamp) AT TIME ZONE 'UTC' "
        "AND p.created_at < CAST(m.day + 1 AS timestamp) AT TIME ZONE 'UTC')"
    ),
    "registrations_final": (
        "SELECT count(*) FROM marts.registrations_final m JOIN raw.registrations r "
        "ON r.correlation_id = m.registration_id AND r.event_type = 'registration_submitted' "
        "WHERE m.day >= %(first)s AND m.amount > r.amount"
    ),
}
"""What a reader may see wrong, in one snapshot: raw never shrinks, so no mart can hold more money than it."""

CAUSES = frozenset({"rules_broken"})
MOST_DAYS = 4
MARKED_AGAIN_SECONDS = 30.0
REFUSED_SECONDS = 300.0
WAITING_SECONDS = 180.0


def inject(drill: Drill) -> Fault:
    """Deploy a bug, have days rebuilt while it is there, and mend it once the system waits for just that."""
    home = Home.from_environment()
    if drill.environment.get("INCIDENT_PIPELINES_SQL") != str(home.sql):
        raise CannotRun("this stack reads its SQL from a folder of yours, which a game day does not touch")
    mart = sorted(BUGS)[drill.random.randrange(len(BUGS))]
    today = TimeWindow.day_of(drill.now())
    # The numbers of a month that is over are for a person to change.
    first = max(today.start - drill.random.randint(1, MOST_DAYS - 1) * DAY, today.start.replace(day=1))
    first = max(first, TimeWindow.day_of(drill.catalog.start).start)
    days = [one.start for one in TimeWindow(first, today.end).split(DAY)]
    control = postgres_engine(drill.environment["CONTROL_DATABASE_URL"], "game day", pool_size=1)
    drill.restore.callback(control.dispose)
    with _deployed(drill, home, mart) as mend:
        injured_at = drill.now()
        drill.report(f"deployed: {mart} multiplies money by 100; {len(days)} days of it are to be built again")
        watch = _Watch(drill, mart, days)
        drill.wait_for("every day is refused", watch.all_refused, REFUSED_SECONDS)
        breached_at = watch.refused_since()
        drill.wait_for("it waits for its cause", lambda: watch.is_waited_for(control, injured_at), WAITING_SECONDS)
        drill.report(f"{len(days)} days are refused, and the incident waits: the SQL is mended")
        mend()
        over_at = drill.now()
        seen_wrong = watch.seen_wrong
    return Fault(
        injured_at=injured_at,
        breached_at=breached_at,
        over_at=over_at,
        noticed_from=breached_at,
        span=TimeWindow(first, over_at + DAY),
        seen_wrong=seen_wrong,
    )


SCENARIO = Scenario(
    name="price-bug",
    summary="A deployed transform multiplies money by 100; nobody may see it, and mending the SQL has to be enough.",
    causes=CAUSES,
    inject=inject,
)


class _Watch:
    """What readers and the publisher see of the days while the bug is there."""

    def __init__(self, drill: Drill, mart: str, days: list[datetime]) -> None:
        self._drill, self._mart, self._days = drill, mart, days
        self._marked = float("-inf")
        self._deployed_at = drill.now()
        self.seen_wrong = 0

    def all_refused(self) -> bool:
        """Whether each of the days was refused since; has those built again that were not."""
        self._read()
        with self._drill.warehouse() as connection:
            rows = connection.execute(
                "SELECT window_start FROM publication.windows WHERE dataset = %s AND state = 'refused' "
                "AND window_start = ANY (%s) AND published_at >= %s",
                (self._mart, self._days, self._deployed_at),
            )
            refused = {row[0] for row in rows}
        left = [day for day in self._days if day not in refused]
        if left and time.monotonic() - self._marked > MARKED_AGAIN_SECONDS:
            # A refresh that began before the deployment may have built some of them as they were.
            self._marked = time.monotonic()
            engine = postgres_engine(self._drill.environment["WAREHOUSE_URL"], "game day", pool_size=1)
            with engine.begin() as connection:
                raise_marks(connection, [(self._mart, day) for day in left])
            engine.dispose()
        return not left

    def refused_since(self) -> datetime:
        """Return when the first of the days was refused: built wrong for the first time."""
        with self._drill.warehouse() as connection:
            row = connection.execute(
                "SELECT min(recorded_at) FROM landing.facts WHERE kind = 'window_refused' AND dataset = %s "
                "AND recorded_at >= %s",
                (self._mart, self._deployed_at),
            ).fetchone()
        assert row is not None
        return row[0] if row[0] is not None else self._drill.now()

    def is_waited_for(self, control: Engine, since: datetime) -> bool:
        """Whether the incident waits for its cause to change."""
        self._read()
        return course_of(control, CAUSES, since).state == "waiting_for_cause"

    def _read(self) -> None:
        with self._drill.warehouse() as connection:
            row = connection.execute(WRONG[self._mart], {"first": self._days[0].date()}).fetchone()
        self.seen_wrong += int(row[0]) if row else 0
        time.sleep(POLL_SECONDS)


@contextmanager
def _deployed(drill: Drill, home: Home, mart: str) -> Iterator[Callable[[], None]]:
    """Have the stack read SQL with a bug until it is told to mend it; whatever happens, what ships comes back."""
    folder = home.path / f"sql-{drill.seed}-{drill.now():%Y%m%d%H%M%S}"
    # Until the end: somebody may be reading it when the link is moved.
    drill.restore.callback(shutil.rmtree, folder, ignore_errors=True)
    drill.restore.callback(deploy_shipped_sql, home)
    shutil.copytree(sql_folder(drill.environment), folder)
    path = folder / "marts" / f"{mart}.sql"
    right, wrong = BUGS[mart]
    text = path.read_text(encoding="utf-8")
    if text.count(right) != 1:
        raise CannotRun(f"sql/marts/{mart}.sql has changed: the bug of this game day does not fit it")
    path.write_text(text.replace(right, wrong), encoding="utf-8")
    deploy_sql(home, folder)
    try:
        yield partial(deploy_shipped_sql, home)
    finally:
        deploy_shipped_sql(home)
