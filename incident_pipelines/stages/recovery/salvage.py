"""Completes cases that are paid for and unfinished by the application's own idempotent call; lists those it cannot.

A case is looked for in the sources each time: whatever died on the way, the next run takes up what is still unfinished.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.databases.reviewed_sql import read_rows, stream_rows
from incident_pipelines.adapters.failpoints import failpoint
from incident_pipelines.adapters.http_call import Answer, call
from incident_pipelines.adapters.stores.incidents import read_incident
from incident_pipelines.adapters.stores.incidents_work import finish_action, intend_action, read_actions, retry_action
from incident_pipelines.adapters.stores.salvaged import (
    finish_salvage,
    intend_salvage,
    refused_salvages,
    salvage_totals,
)
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.core.salvage import CANDIDATE_COLUMNS, Candidate, Salvage, Salvages, state_of
from incident_pipelines.stages.source_urls import source_url

PAGE = 1_000
CASES_AT_MOST = 100_000
"""Of one run; the next one takes up the rest."""
UNANSWERED_AT_MOST = 3
"""After so many calls without an answer in a row the application is taken to be away."""
CALLS_PER_SECOND = 5.0

Report = Callable[[str], None]


class SalvageRefused(IncidentPipelinesError):
    """Nothing was called; the message says why."""


@dataclass(frozen=True)
class Left:
    """A case that could not be completed, and what the application said."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True)
class Salvaged:
    """What a run of salvage did.

    Args:
        found: unfinished cases that were looked at.
        completed: of these.
        left: those that could not be completed, for outreach.
        away: why the run ended before it had called for all; None if it did not.
        share: completed cases of all that salvage has ever tried for the incident (or for none): s of the loss model.
    """

    found: int
    completed: int
    left: tuple[Left, ...]
    away: str | None
    share: float | None


def declared_salvage(salvages: Salvages, name: str | None) -> Salvage:
    """Return the declaration of that name; without a name the only one.

    Raises:
        SalvageRefused: there is none, or more than one and no name.
    """
    known = ", ".join(salvages.declared)
    if not salvages.declared:
        raise SalvageRefused("the catalog declares nothing that could be salvaged: see docs/corrections.md")
    if name is None and len(salvages.declared) == 1:
        return next(iter(salvages.declared.values()))
    found = salvages.declared.get(name or "")
    if found is None:
        raise SalvageRefused(f"{f'{name!r} is not known' if name else 'say which one'}: --name, one of {known}")
    return found


def unfinished(
    catalog: Catalog, salvages: Salvages, salvage: Salvage, environment: Mapping[str, str], now: datetime
) -> Iterator[Candidate]:
    """Yield the cases that are paid for and not finished, in the order of the SELECT, with bounded memory.

    Args:
        environment: addresses of the catalog's sources.
        now: aware.

    Raises:
        SourceUnavailable: a source does not answer.
    """
    selected = salvage.candidates
    values = {"since": now - salvage.lookback, "due": now - salvage.grace}
    url = source_url(catalog, environment, selected.source)
    rows = stream_rows(url, selected.source, _sql(salvages, selected.sql), values, CANDIDATE_COLUMNS)
    while page := [_candidate(row) for row in islice(rows, PAGE)]:
        found = rows_of_keys(catalog, salvages, salvage.finished.source, salvage.finished.sql, environment, page)
        finished = {str(row["key"]) for row in found}
        yield from (one for one in page if one.key not in finished)


def complete(
    control: Engine,
    catalog: Catalog,
    salvages: Salvages,
    salvage: Salvage,
    environment: Mapping[str, str],
    actor: Actor,
    *,
    incident_id: str | None = None,
    limit: int | None = None,
    calls_per_second: float = CALLS_PER_SECOND,
    again: bool = False,
    report: Report = lambda _: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Salvaged:
    """Call for each unfinished case once, the intent of each committed before and its outcome after.

    Args:
        actor: on whose behalf.
        incident_id: that it is a part of; its timeline tells of the run, `incidents.salvaged` of each call.
        limit: most calls.
        calls_per_second: at most.
        again: call as well for what the application has refused before.
        report: told of each call that did not complete its case.

    Raises:
        SalvageRefused: the address of the service is not set.
        UnknownIncident: there is none of that id.
        SourceUnavailable: a database does not answer; running it again goes on.
    """
    url = environment.get(salvage.call.url)
    if not url:
        raise SalvageRefused(f"{salvage.call.url} is not set: the address of the service that completes {salvage.name}")
    action = _begin(control, salvage, incident_id, actor, clock())
    found = completed = called = in_a_row = 0
    left: list[Left] = []
    away: str | None = None
    turn = time.monotonic()
    # Read to the end before the first call: no source is kept in a transaction for as long as the calls take.
    cases = iter(list(islice(unfinished(catalog, salvages, salvage, environment, clock()), CASES_AT_MOST)))
    while away is None and (page := list(islice(cases, PAGE))):
        with available("control database"), control.connect() as connection:
            refused = {} if again else refused_salvages(connection, salvage.name, [one.key for one in page])
        for one in page:
            if limit is not None and called >= limit:
                break
            found += 1
            if one.key in refused:
                left.append(Left(one, refused[one.key]))
                continue
            if (wait := turn - time.monotonic()) > 0:
                time.sleep(wait)
            turn = max(turn, time.monotonic()) + 1 / calls_per_second
            called += 1
            answer = _call_once(control, salvage, url, one, incident_id, actor, clock)
            state = state_of(answer.status)
            in_a_row = in_a_row + 1 if state == "unanswered" else 0
            if state == "completed":
                completed += 1
                continue
            told = answer.text if answer.status is None else f"{answer.status}: {answer.text}"
            left.append(Left(one, told))
            report(f"{one.key}: {told}")
            if in_a_row >= UNANSWERED_AT_MOST:
                away = f"{in_a_row} calls in a row were not answered: {told}"
                break
        if limit is not None and called >= limit:
            break
    with available("control database"), control.begin() as connection:
        counts = salvage_totals(connection, salvage.name, incident_id)
        tried = sum(counts.values())
        share = counts.get("completed", 0) / tried if tried else None
        if action is not None:
            outcome = {"found": found, "completed": completed, "left": len(left), "share": share, "away": away}
            told = f"{completed:,} of {found:,} unfinished cases completed by {salvage.name}; {len(left):,} are left"
            finish_action(connection, action, "failed" if away else "done", outcome, actor, told, clock())
    return Salvaged(found, completed, tuple(left), away, share)


def _call_once(
    control: Engine,
    salvage: Salvage,
    url: str,
    one: Candidate,
    incident_id: str | None,
    actor: Actor,
    clock: Callable[[], datetime],
) -> Answer:
    with available("control database"), control.begin() as connection:
        intend_salvage(connection, salvage.name, one, incident_id, actor, clock())
    failpoint("salvage.intended")
    made = salvage.call
    answer = call(
        url, made.method, made.path, one.key, f"salvage:{salvage.name}:{one.key}", made.timeout.total_seconds()
    )
    failpoint("salvage.called")
    with available("control database"), control.begin() as connection:
        told = answer.text if answer.status is None else f"{answer.status}: {answer.text}"
        finish_salvage(connection, salvage.name, one.key, state_of(answer.status), told, clock())
    return answer


def _begin(control: Engine, salvage: Salvage, incident_id: str | None, actor: Actor, now: datetime) -> str | None:
    """Commit the intent of a run in the incident's timeline; one that has not come to an end is taken up again."""
    if incident_id is None:
        return None
    prefix = f"{incident_id}:salvage:{salvage.name}"
    with available("control database"), control.begin() as connection:
        read_incident(connection, incident_id)
        known = [one for one in read_actions(connection, incident_id) if one.key.startswith(f"{prefix}:")]
        key = f"{prefix}:{sum(one.state == 'done' for one in known) + 1}"
        what = f"complete the unfinished cases of {salvage.name}"
        target = {"what": what, "salvage": salvage.name}
        if not intend_action(connection, incident_id, key, "salvage", target, actor, what, now):
            retry_action(connection, key)
    return key


def rows_of_keys(
    catalog: Catalog,
    salvages: Salvages,
    source: str,
    sql: str,
    environment: Mapping[str, str],
    page: Sequence[Candidate],
) -> list[dict[str, Any]]:
    """Return what a SELECT has of the keys of some cases; errors as of `unfinished`."""
    url = source_url(catalog, environment, source)
    rows = read_rows(url, source, _sql(salvages, sql), {"keys": [one.key for one in page]})
    return [dict(row) for row in rows]


def _sql(salvages: Salvages, file: str) -> str:
    return salvages.sql[file].strip().rstrip(";")


def _candidate(row: tuple[Any, ...]) -> Candidate:
    key, amount, currency, since = row
    if key is None or amount is None or not isinstance(since, datetime):
        raise SalvageRefused("a candidate has no key, no amount or no time: its SELECT has to leave it out")
    aware = since.replace(tzinfo=UTC) if since.tzinfo is None else since.astimezone(UTC)
    return Candidate(str(key), Decimal(str(amount)), str(currency or ""), aware)
