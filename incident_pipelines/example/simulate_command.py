"""`incident-pipelines simulate`: reads the options, runs the simulation, prints what it did."""

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.example import simulate as simulation
from incident_pipelines.example.addresses import command_environment
from incident_pipelines.example.events import TOPICS
from incident_pipelines.example.log_append import landing_log
from incident_pipelines.example.progress import instant_of, minute_of
from incident_pipelines.example.settings import (
    RATE,
    SEED,
    InvalidSetting,
    Settings,
    instant_from,
    settings_from,
)
from incident_pipelines.example.sinks import EventSink, KafkaSink, LogSink
from incident_pipelines.example.topics import create_topics
from incident_pipelines.example.visits import World

# More than this a minute of events does not fit comfortably into memory.
MAX_RATE = 300.0
EXIT_ERROR = 2
EXIT_STOPPED = 130


def simulate(
    from_: Annotated[str, typer.Option("--from", help="First minute, ISO 8601; UTC unless it has an offset.")],
    to: Annotated[str, typer.Option("--to", help="End (exclusive); not in the future.")],
    rate: Annotated[float, typer.Option(help="Sign-up attempts a second, mean over a week.")] = RATE,
    seed: Annotated[int, typer.Option(help="The same seed, rate and range give the same events.")] = SEED,
    via: Annotated[str, typer.Option(help="kafka, or log: straight into the landing log.")] = "kafka",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write a seeded history of registrations, payments and page views into sources and topics.

    Ctrl-C finishes what is under way; the same command goes on from there. Nothing is written twice.
    """
    console = Console(stderr=True)
    try:
        environment = command_environment()
        settings = settings_from(environment)
        start, end = _range(environment, from_, to)
        world = _world(seed, rate)
        with (
            _sink(environment, settings, world, via) as sink,
            _stop_at_interrupt(console) as stop,
            _shown(console) as progressed,
        ):
            result = simulation.Simulation(settings, world, sink, progressed, stop).run(start, end)
    except IncidentPipelinesError as error:
        console.print(f"[red]simulate:[/red] {error}", highlight=False)
        raise typer.Exit(EXIT_ERROR) from error
    report = _report(result, world, start, end, via)
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        _print(Console(), report)
    if result.stopped_at is not None:
        console.print(
            f"stopped: everything before {instant_of(result.stopped_at):%Y-%m-%dT%H:%MZ} is written."
            " Run the same command again to go on.",
            highlight=False,
        )
        raise typer.Exit(EXIT_STOPPED)


def _range(environment: Mapping[str, str], from_: str, to: str) -> tuple[int, int]:
    instants: list[datetime] = []
    for option, text in (("--from", from_), ("--to", to)):
        try:
            instant = instant_from(text)
        except ValueError as error:
            raise InvalidSetting(f"{option} {text!r} is no timestamp such as 2026-11-01T00:00Z") from error
        if instant.second or instant.microsecond:
            raise InvalidSetting(f"{option} {text!r} is not on a whole minute")
        instants.append(instant)
    start, end = instants
    now = datetime.now(UTC)
    first = load_catalog(environment).start
    if start >= end:
        raise InvalidSetting(f"--from {from_} is not before --to {to}")
    if end > now:
        raise InvalidSetting(f"--to {to} is in the future; it is {now:%Y-%m-%dT%H:%MZ}")
    if start < first:
        raise InvalidSetting(
            f"--from {from_} is before the catalog's start, {first:%Y-%m-%dT%H:%MZ};"
            " set INCIDENT_PIPELINES_START to an earlier one when the stack is first started"
        )
    return minute_of(start), minute_of(end)


def _world(seed: int, rate: float) -> World:
    if not 0 < rate <= MAX_RATE:
        raise InvalidSetting(f"--rate {rate:g} is not in (0, {MAX_RATE:g}]; simulate a longer range for more events")
    if not -(2**63) <= seed < 2**63:
        raise InvalidSetting(f"--seed {seed} does not fit into 64 bits")
    return World(seed, float(rate))


@contextmanager
def _sink(environment: Mapping[str, str], settings: Settings, world: World, via: str) -> Iterator[EventSink]:
    match via:
        case "kafka":
            create_topics(settings.kafka, [settings.topic_prefix + topic for topic in TOPICS])
            with closing(KafkaSink(settings)) as sink:
                yield sink
        case "log":
            with landing_log(environment) as append:
                yield LogSink(settings, world, append)
        case _:
            raise InvalidSetting(f"--via {via!r} must be kafka or log")


@contextmanager
def _stop_at_interrupt(console: Console) -> Iterator[threading.Event]:
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(_signal: int, _frame: FrameType | None) -> None:
        stop.set()
        # A second Ctrl-C ends it at once; what is under way is completed by the next run.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        console.print("finishing what is under way; Ctrl-C again ends it at once")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _shown(console: Console) -> Iterator[Callable[[simulation.Progress], None]]:
    columns = (
        TextColumn("simulated"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("minutes, {task.fields[events]:,} events, {task.fields[speed]:,.0f}/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=False) as bar:
        task = bar.add_task("simulated", total=None, events=0, speed=0.0)

        def show(progress: simulation.Progress) -> None:
            elapsed = bar.tasks[0].elapsed or 0.0
            bar.update(
                task,
                completed=progress.minutes_done,
                total=progress.minutes,
                events=progress.events,
                speed=progress.events / elapsed if elapsed else 0.0,
            )

        yield show


def _report(result: simulation.Result, world: World, start: int, end: int, via: str) -> dict[str, object]:
    return {
        "from": f"{instant_of(start):%Y-%m-%dT%H:%M:%SZ}",
        "to": f"{instant_of(end):%Y-%m-%dT%H:%M:%SZ}",
        "seed": world.seed,
        "rate": world.rate,
        "via": via,
        "complete": result.stopped_at is None,
        "events": result.written,
        "seconds": round(result.seconds, 3),
        "events_per_second": round(result.events_per_second),
        "transactional_share": round(result.transactional_share, 4),
        "record_timestamps": result.timestamps,
        "topics": {
            topic: {"events": total.events, "digest": f"{total.digest:032x}"} for topic, total in result.totals.items()
        },
    }


def _print(console: Console, report: Mapping[str, object]) -> None:
    stamps, topics = report["record_timestamps"], report["topics"]
    assert isinstance(stamps, dict)
    assert isinstance(topics, dict)
    lines = [
        f"{report['events']:,} events in {report['seconds']} s, {report['events_per_second']:,} events/s;"
        f" {report['transactional_share']:.1%} of the range transactional"
    ]
    if stamps["time_of_sending"]:
        lines.append(
            f"{stamps['time_of_sending']:,} records carry the time of sending: their event time lies before the"
            " topic's retention, which would delete them at once"
        )
    lines += [f"{topic:<14}{total['events']:>12,} events  digest {total['digest']}" for topic, total in topics.items()]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
