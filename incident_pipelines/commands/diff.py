"""`incident-pipelines diff`: compares two tables, prints what differs."""

import contextlib
import csv
import os
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any, cast

import msgspec
import typer
from rich.box import HORIZONTALS
from rich.console import Console
from rich.table import Table
from rich.text import Text

from incident_pipelines.adapters.databases.comparison.pair import TablePair
from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.core.masking import printable
from incident_pipelines.core.reconciliation.comparison import (
    ComparedColumn,
    Comparison,
    Counts,
    Difference,
    InvalidComparison,
)
from incident_pipelines.core.reconciliation.values import Value
from incident_pipelines.stages.reconciliation.compare import Progress, TableRef, compare_pair

_PRINTED_ROWS = 50
_INTERRUPTED = 130
_SECONDS_BETWEEN_LINES = 10.0

# Numbers exactly as they are: a double would round them.
_encoder = msgspec.json.Encoder(decimal_format="number")


class Format(StrEnum):
    """How differences are printed."""

    TABLE = "table"
    JSON = "json"


def diff(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="URL::schema.table or URL::table.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="URL::schema.table or URL::table.")],
    key: Annotated[
        list[str] | None,
        typer.Option("--key", "-k", help="Columns that rows are paired by, comma-separated. Default: the primary key."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--columns", "-c", help="Columns to compare, comma-separated. Default: those that both have."),
    ] = None,
    where: Annotated[str | None, typer.Option(help="SQL condition on the rows of both tables.")] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=NUMBER", help="Largest difference that counts as equal; may be repeated."),
    ] = None,
    ignore_case: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Compare its texts without case; may be repeated.")
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="What to print.")] = Format.TABLE,
    limit: Annotated[
        int | None,
        typer.Option(min=0, help=f"Differences printed at most. Default: {_PRINTED_ROWS} in a table, all as JSON."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="File for all differences: CSV if its name ends in .csv, else JSON lines.")
    ] = None,
    statement_timeout: Annotated[float, typer.Option(min=0.001, help="Seconds a statement may take.")] = 600.0,
) -> None:
    """Compare two tables row by row; exit 0: equal, 1: they differ, 2: they could not be compared.

    Missing rows are in SOURCE only, unexpected ones in TARGET only, mismatched ones in both with other values. The
    tables may be in PostgreSQL, DuckDB, SQLite or any database with an SQLAlchemy driver, and not in the same.
    """
    try:
        counts = _diff(
            _side(source, where),
            _side(target, where),
            _names(key),
            _names(columns),
            _tolerances(tolerance),
            _names(ignore_case),
            format_,
            limit,
            output,
            statement_timeout,
        )
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    except IncidentPipelinesError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(1 if counts.differences else 0)


def _diff(
    source: TableRef,
    target: TableRef,
    key: list[str],
    columns: list[str],
    tolerances: dict[str, Decimal],
    ignore_case: list[str],
    format_: Format,
    limit: int | None,
    output: Path | None,
    timeout_seconds: float,
) -> Counts:
    with _progress() as report, _opened(output) as listed:
        report(Progress("opening"))
        pair = TablePair(source, target, timeout_seconds)
        try:
            comparison = _comparison(pair, key, columns, tolerances, ignore_case)
        except BaseException:
            pair.close()
            raise
        run = compare_pair(pair, comparison, progress=report)
        printed_at_most = limit if limit is not None else _PRINTED_ROWS if format_ is Format.TABLE else None
        printed: list[Difference] = []
        differences = iter(run)
        with contextlib.closing(cast(Any, differences)):
            for difference in differences:
                if printed_at_most is None or len(printed) < printed_at_most:
                    printed.append(difference)
                if listed is not None:
                    listed.write(difference)
    if format_ is Format.JSON:
        _print_json(run.counts, printed)
    else:
        _print_table(run.counts, printed, comparison)
    return run.counts


def _side(named: str, where: str | None) -> TableRef:
    url, separator, table = named.rpartition("::")
    if not separator or not url or not table:
        # What was given may hold a password.
        raise InvalidComparison(
            "a table is named URL::table or URL::schema.table, for example "
            "postgresql://user@host:5432/shop::public.orders"
        )
    ref = TableRef(url, table, where=where)
    _ = ref.parts
    return ref


def _names(given: list[str] | None) -> list[str]:
    return [name.strip() for names in given or [] for name in names.split(",") if name.strip()]


def _tolerances(given: list[str] | None) -> dict[str, Decimal]:
    tolerances: dict[str, Decimal] = {}
    for pair in _names(given):
        name, _, number = pair.rpartition("=")
        try:
            tolerances[name] = Decimal(number)
        except InvalidOperation:
            name = ""
        if not name:
            raise InvalidComparison(f"--tolerance {printable(pair)!r}: write it like amount=0.01")
    return tolerances


def _comparison(
    pair: TablePair, key: list[str], columns: list[str], tolerances: dict[str, Decimal], ignore_case: list[str]
) -> Comparison:
    source, target = pair.source, pair.target
    key = key or list(source.primary_key)
    if not key or (key == list(source.primary_key) != list(target.primary_key) and not set(key) <= set(target.columns)):
        raise InvalidComparison(
            f"--key is needed: the tables do not have the same primary key "
            f"({', '.join(source.primary_key) or 'none'} and {', '.join(target.primary_key) or 'none'}); "
            f"columns of both are {', '.join(_shared(pair)) or 'none'}"
        )
    if not columns:
        columns = [name for name in _shared(pair) if name not in key]
        for side, other in ((source, target), (target, source)):
            alone = [name for name in side.columns if name not in other.columns]
            if alone:
                typer.echo(f"not compared, only in {side.ref.name}: {printable(', '.join(alone))}", err=True)
    columns = [name for name in columns if name not in key]
    for name in (*tolerances, *ignore_case):
        if name not in (*key, *columns):
            raise InvalidComparison(
                f"{printable(name)} has an option but is not compared; compared are {', '.join((*key, *columns))}"
            )
    compared = {
        name: ComparedColumn(name, name, name, tolerances.get(name), name in ignore_case) for name in (*key, *columns)
    }
    return Comparison(tuple(compared[name] for name in key), tuple(compared[name] for name in columns))


def _shared(pair: TablePair) -> list[str]:
    return [name for name in pair.source.columns if name in pair.target.columns]


def _print_json(counts: Counts, differences: list[Difference]) -> None:
    out = sys.stdout.buffer
    out.write(b'{"counts":' + _encoder.encode(counts) + b',"differences":[')
    for number, difference in enumerate(differences):
        out.write((b"," if number else b"") + b"\n" + _encoder.encode(_document(difference)))
    out.write(b"]}\n")
    out.flush()


def _document(difference: Difference) -> dict[str, Any]:
    return {
        "kind": difference.kind,
        "key": {name: _json(value) for name, value in difference.key.items()},
        "columns": {
            name: {"source": _json(source), "target": _json(target)}
            for name, (source, target) in difference.columns.items()
        },
    }


def _json(value: Value) -> Any:
    """Return a value as JSON takes it; texts that are no Unicode are escaped, integers of any size stay numbers."""
    if isinstance(value, str):
        return value if not any("\ud800" <= letter <= "\udfff" for letter in value) else printable(value)
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return Decimal(value)
    return value


def _print_table(counts: Counts, differences: list[Difference], comparison: Comparison) -> None:
    console = Console()
    names = [column.name for column in comparison.key]
    table = Table(box=HORIZONTALS, show_edge=False, pad_edge=False)
    for title in ("kind", *names, "column", "source", "target"):
        table.add_column(Text(printable(title)), overflow="fold")
    styles = {"missing": "red", "unexpected": "yellow", "mismatched": "cyan"}
    for difference in differences:
        key = [Text(_shown(difference.key[name])) for name in names]
        columns = difference.columns if difference.kind == "mismatched" else {}
        first = Text(difference.kind, style=styles[difference.kind])
        if not columns:
            table.add_row(first, *key, "", "", "")
        for number, (name, (left, right)) in enumerate(columns.items()):
            start = [first, *key] if number == 0 else [""] * (1 + len(key))
            table.add_row(*start, Text(printable(name)), Text(_shown(left)), Text(_shown(right)))
    if differences:
        console.print(table)
    if counts.differences > len(differences):
        console.print(Text(f"… and {counts.differences - len(differences):,} more; --limit prints more, --output all"))
    verdict = "equal" if not counts.differences else "different"
    console.print(
        Text(
            f"{verdict}: {counts.source:,} rows in source, {counts.target:,} in target; {counts.missing:,} missing, "
            f"{counts.unexpected:,} unexpected, {counts.mismatched:,} mismatched"
        ),
        soft_wrap=True,
    )


def _shown(value: Value) -> str:
    match value:
        case None:
            return "NULL"
        case str():
            return printable(value) or "''"
        case bytes():
            return f"\\x{value.hex()}"
        case datetime():
            return value.astimezone(UTC).isoformat(" ")
        case Decimal():
            return format(value, "f") if value.adjusted() > -20 else str(value)
        case _:
            return str(value)


class _Listing:
    """All differences as a file; complete or not there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
        self._file: IO[str] = self._unfinished.open("w", encoding="utf-8", newline="")
        self._csv = csv.writer(self._file) if path.suffix.lower() == ".csv" else None
        if self._csv is not None:
            self._csv.writerow(["kind", "key", "column", "source", "target"])

    def write(self, difference: Difference) -> None:
        """Write one difference; as CSV a row for each column."""
        document = _document(difference)
        if self._csv is None:
            self._file.write(_encoder.encode(document).decode() + "\n")
            return
        key = _encoder.encode(document["key"]).decode()
        if not difference.columns:
            self._csv.writerow([difference.kind, key, "", "", ""])
        for name, pair in document["columns"].items():
            self._csv.writerow([difference.kind, key, name, *(_encoder.encode(pair[s]).decode() for s in pair)])

    def finish(self) -> None:
        """Let the file appear."""
        self._file.close()
        self._unfinished.replace(self._path)

    def drop(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[_Listing | None]:
    if path is None:
        yield None
        return
    try:
        listing = _Listing(path)
    except OSError as error:
        raise InvalidComparison(f"--output {path} cannot be written: {error.strerror}") from error
    try:
        yield listing
    except BaseException:
        listing.drop()
        raise
    listing.finish()


@contextlib.contextmanager
def _progress() -> Iterator[Any]:
    """Show on stderr how far it is: in place on a terminal, else as a line now and then."""
    console = Console(stderr=True)
    state = {"text": "", "since": time.monotonic(), "printed": 0.0}
    if console.is_terminal:
        with console.status("") as status:
            stop = threading.Event()

            def tick() -> None:
                while not stop.wait(0.5):
                    status.update(f"{state['text']} ({time.monotonic() - cast(float, state['since']):.0f} s)")

            threading.Thread(target=tick, daemon=True).start()

            def show(progress: Progress) -> None:
                state["text"] = _told(progress)
                status.update(str(state["text"]))

            try:
                yield show
            finally:
                stop.set()
        return

    def say(progress: Progress) -> None:
        now = time.monotonic()
        if not progress.done or now - cast(float, state["printed"]) >= _SECONDS_BETWEEN_LINES:
            state["printed"] = now
            typer.echo(_told(progress), err=True)

    yield say


def _told(progress: Progress) -> str:
    match progress.phase:
        case "opening":
            return "opening both sides"
        case "digesting":
            return f"digesting about {progress.rows:,} rows of both sides"
        case "narrowing":
            return f"narrowing down {progress.rows:,} rows in buckets that differ"
        case "reading":
            return f"reading {progress.rows:,} rows that may differ" + (
                f": {min(1.0, progress.done / max(1, progress.rows)):.0%}" if progress.done else ""
            )
