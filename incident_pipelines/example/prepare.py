"""Makes the example ready for the live service: tables, plans, topics, and 8 days of history the first time."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import psycopg

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.core.errors import InvalidDocument, SourceUnavailable
from incident_pipelines.example.cards import card_of
from incident_pipelines.example.databases import connect, create_tables, statement
from incident_pipelines.example.events import TOPICS, timestamp_text
from incident_pipelines.example.history import History
from incident_pipelines.example.log_append import landing_log
from incident_pipelines.example.progress import instant_of, mark_taken_over, minute_of
from incident_pipelines.example.service.sign_ups import activation_seconds
from incident_pipelines.example.settings import SEED, settings_from
from incident_pipelines.example.simulate import Progress, Simulation
from incident_pipelines.example.sinks import AppendToLog, LogSink
from incident_pipelines.example.topics import create_topics
from incident_pipelines.example.visits import MINUTE_US, SignUp, World

HISTORY = timedelta(days=8)


def prepare(environment: Mapping[str, str], report: Callable[[str], None]) -> None:
    """Make tables, plans and topics, and load the history unless that was done; may be run again.

    Args:
        environment: addresses of the databases' owner.
        report: told of each step.

    Raises:
        SourceUnavailable: a database or the broker does not answer; run it again to go on.
    """
    # The catalog takes a second to read; the one that ships is known to fit.
    own = environment.get("INCIDENT_PIPELINES_CATALOG")
    missing = sorted(set(TOPICS) - set(load_catalog(environment).landed)) if own else []
    if missing:
        raise InvalidDocument(
            f"the catalog has no {', '.join(missing)}, which the example writes: `up --no-example` goes without it"
        )
    settings = settings_from(environment)
    report("preparing the example's databases and topics")
    create_tables(settings)
    create_topics(settings.kafka, [settings.topic_prefix + topic for topic in TOPICS])
    # The catalog takes a second to read: not at every start.
    if not history_is_loaded(settings.app_url):
        with landing_log(environment) as append:
            load_history(environment, append, datetime.now(UTC), report)


def history_is_loaded(app_url: str) -> bool:
    """Return whether the history was loaded and handed over to the live service."""
    with connect(app_url, autocommit=True, application="example history") as connection:
        row = connection.execute(statement("history_state")).fetchone()
    return row is not None and row[1]


def load_history(
    environment: Mapping[str, str], append: AppendToLog, now: datetime, report: Callable[[str], None]
) -> None:
    """Load 8 days of history up to the current minute into sources and landing log, and hand it over, once.

    Args:
        environment: addresses of the databases' owner.
        append: appends to the landing log.
        now: the current time.
        report: told of each step.
    """
    settings = settings_from(environment)
    world = World(SEED, settings.rate)
    end = minute_of(now)
    first = max(minute_of(now - HISTORY), minute_of(load_catalog(environment).start))
    with connect(settings.app_url, autocommit=True, application="example history") as connection:
        connection.execute(statement("begin_history"), (instant_of(first),))
        row = connection.execute(statement("history_state")).fetchone()
    if row is None or row[1]:
        return
    # A load that was cut off goes on from its own beginning, up to now.
    start = minute_of(row[0])
    report("loading the example's history: 8 days of registrations, payments and page views")
    last_percent = -1

    def progressed(progress: Progress) -> None:
        nonlocal last_percent
        percent = 100 * progress.minutes_done // max(progress.minutes, 1)
        if percent // 10 != last_percent // 10:
            last_percent = percent
            report(f"loading the example's history: {percent} %")

    sink = LogSink(settings, world, append)
    if start < end:
        Simulation(settings, world, sink, progressed).run(start, end)
    hand_over(settings.app_url, settings.billing_url, world, start, end)


def hand_over(app_url: str, billing_url: str, world: World, start: int, end: int) -> None:
    """Give what the history left unfinished to the live service, which ends it at the time that was drawn."""
    end_us = end * MINUTE_US
    unfinished = [up for up in History(world, end, start).unfinished if up.created_us < end_us]
    try:
        with connect(billing_url, application="example history") as billing:
            for sign_up in unfinished:
                if sign_up.payment_at(end_us)[0] == "authorized" and sign_up.captured_us is not None:
                    billing.execute(
                        statement("set_capture_due"),
                        (timestamp_text(sign_up.captured_us), sign_up.registration_id),
                    )
        with connect(app_url, application="example history") as app:
            for sign_up in unfinished:
                step, due_us = _next_step(sign_up, end_us)
                app.execute(
                    statement("insert_flow"),
                    (
                        sign_up.registration_id,
                        step,
                        card_of(sign_up).token,
                        activation_seconds(sign_up),
                        timestamp_text(due_us),
                    ),
                )
            mark_taken_over(app, world)
            app.execute(statement("end_history"))
    except psycopg.OperationalError as error:
        raise SourceUnavailable(f"a database went away while the history was handed over: {error}") from error


def _next_step(sign_up: SignUp, instant_us: int) -> tuple[str, int]:
    status, _, _ = sign_up.registration_at(instant_us)
    match status:
        case "activated":
            return "invoice", sign_up.invoiced_us or instant_us
        case "captured":
            return "activation", sign_up.activated_us or instant_us
        case "authorized":
            return "payment", sign_up.captured_us or instant_us
        case _:
            return "payment", instant_us
