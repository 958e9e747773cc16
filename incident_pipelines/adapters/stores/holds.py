"""Holds on windows, in the warehouse: while one stands, only the incident that holds a window publishes it."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime

from sqlalchemy import Connection, RowMapping, text
from sqlalchemy.exc import DBAPIError

from incident_pipelines.adapters.databases.publication import was_overtaken
from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.core.errors import WindowOwned
from incident_pipelines.core.incidents.holds import Hold, HoldKind, Place, in_the_way, may_overlap, publisher_of, told
from incident_pipelines.core.publication import lock_key
from incident_pipelines.core.windows import TimeWindow

MAX_WINDOWS = 5000
"""Windows that may be held at once: each takes a place in the server's table of locks."""

_HOLDERS_LOCK = 0x1C1D_0003  # any constant of our own: of two who want the same windows one has to see the other
_LOCK_NOT_AVAILABLE = "55P03"
_ATTEMPTS = 5


def hold_windows(
    connection: Connection,
    incident_id: str,
    kind: HoldKind,
    places: Iterable[Place],
    reason: str,
    now: datetime,
    *,
    regardless_of: Collection[str] = (),
    wait_seconds: float = 20,
) -> list[Hold]:
    """Keep everybody but the incident from publishing windows, once the caller's transaction has committed.

    On return every publish of them that began before has ended, and none can begin until the transaction ends. Doing
    it again changes nothing. All places are held, or none.

    Args:
        places: spans of windows by dataset; every window that overlaps one is held.
        reason: what others are told.
        regardless_of: incidents that give way; what they hold stays held, and is not in the way.
        wait_seconds: how long to wait for a publish that is under way.

    Returns:
        The holds on these places, old ones too.

    Raises:
        WindowOwned: a recovery has to wait for another incident (see `in_the_way`), or a publish does not end; the
            message names it. Nothing was held.
        ValueError: more windows than can be held at once.
    """
    wanted = sorted(set(places))
    windows = _windows(connection, wanted)
    keys = {lock_key(dataset, window) for dataset, window in windows}
    if len(keys) > MAX_WINDOWS:
        raise ValueError(f"{len(keys)} windows cannot be held at once, at most {MAX_WINDOWS}: hold shorter spans")
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _HOLDERS_LOCK})
    for dataset, window in wanted:
        holds = overlapping_holds(connection, dataset, window)
        others = (hold for hold in holds if hold.incident_id not in regardless_of)
        standing = in_the_way(kind, number_of(incident_id), others)
        if standing is not None:
            raise WindowOwned(told(standing, dataset, window))
    _lock_windows(connection, windows, sorted(keys), wait_seconds)
    if wanted:
        connection.execute(
            query("place_hold"),
            [
                {
                    "dataset": dataset,
                    "window_start": window.start,
                    "window_end": window.end,
                    "incident_id": incident_id,
                    "kind": kind,
                    "reason": reason,
                    "now": now,
                }
                for dataset, window in wanted
            ],
        )
    held = set(wanted)
    return [
        hold
        for hold in read_holds(connection, incident_id)
        if hold.kind == kind and (hold.dataset, hold.window) in held
    ]


def release_holds(connection: Connection, incident_id: str, kinds: Collection[HoldKind] | None = None) -> int:
    """Let go of what an incident holds, once the transaction commits, and return the number of holds.

    Args:
        kinds: None for all.
    """
    values = {"incident_id": incident_id, "kinds": None if kinds is None else list(kinds)}
    whole = {"dataset": None, "window_start": None, "window_end": None}
    return connection.execute(query("release_holds"), {**values, **whole}).rowcount


def release_place(connection: Connection, incident_id: str, kind: HoldKind, place: Place) -> int:
    """Let go of one span; return the number of holds, 0 if it was not held."""
    dataset, window = place
    values = {"dataset": dataset, "window_start": window.start, "window_end": window.end}
    return connection.execute(query("release_holds"), {"incident_id": incident_id, "kinds": [kind], **values}).rowcount


def read_holds(connection: Connection, incident_id: str | None = None) -> list[Hold]:
    """Return holds in the order of their incidents.

    Args:
        incident_id: None for those of all incidents.
    """
    return [_hold(row) for row in connection.execute(query("read_holds"), {"incident_id": incident_id}).mappings()]


def overlapping_holds(connection: Connection, dataset: str, window: TimeWindow) -> list[Hold]:
    """Return the holds on any window of a dataset that overlaps this one."""
    values = {"dataset": dataset, "window_start": window.start, "window_end": window.end}
    return [_hold(row) for row in connection.execute(query("overlapping_holds"), values).mappings()]


def check_holds(connection: Connection, dataset: str, window: TimeWindow, incident_id: str | None) -> None:
    """Check that a window may be published; to be called by its owner, who keeps holds from being placed meanwhile.

    Args:
        incident_id: on whose behalf; None for everybody else.

    Raises:
        WindowOwned: an incident holds it; the message names it.
    """
    publisher = publisher_of(overlapping_holds(connection, dataset, window))
    if publisher is not None and publisher.incident_id != incident_id:
        raise WindowOwned(told(publisher, dataset, window))


def number_of(incident_id: str) -> int:
    """Return the number of an incident: 7 of INC-7."""
    return int(incident_id.removeprefix("INC-"))


def _lock_windows(connection: Connection, windows: list[Place], keys: list[int], wait_seconds: float) -> None:
    """Wait for the windows' publishers. A publish may own several windows itself: who is overtaken begins again."""
    for attempt in range(_ATTEMPTS):
        try:
            with connection.begin_nested():
                connection.execute(
                    text("SELECT set_config('lock_timeout', :timeout, true)"),
                    {"timeout": f"{int(wait_seconds * 1000) or 1}ms"},
                )
                connection.execute(query("lock_windows"), {"lock_keys": keys})
                connection.execute(text("SELECT set_config('lock_timeout', '0', true)"))
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
                raise WindowOwned(_named(connection, windows, wait_seconds)) from error
            if attempt + 1 == _ATTEMPTS or not was_overtaken(error):
                raise
        else:
            return


def _windows(connection: Connection, places: list[Place]) -> list[Place]:
    """Return the windows that spans overlap, which are days where the dataset is a mart."""
    datasets = {dataset for dataset, _ in places}
    marts = set(connection.execute(query("which_are_marts"), {"datasets": sorted(datasets)}).scalars())
    return [(dataset, window) for dataset, span in places for window in may_overlap(span, days=dataset in marts)]


def _named(connection: Connection, windows: list[Place], wait_seconds: float) -> str:
    for dataset, window in windows:
        holder = connection.execute(query("lock_holder"), {"lock_key": lock_key(dataset, window)}).scalar()
        if holder is not None:
            return (
                f"{dataset} {window.start.isoformat()} is being published by {holder}, "
                f"which has not ended within {wait_seconds:g} s: nothing is held yet"
            )
    return f"a publish had not ended within {wait_seconds:g} s: nothing is held yet"


def _hold(row: RowMapping) -> Hold:
    return Hold(
        hold_id=row["hold_id"],
        dataset=row["dataset"],
        window=TimeWindow(row["window_start"].astimezone(UTC), row["window_end"].astimezone(UTC)),
        incident_id=row["incident_id"],
        number=row["number"],
        kind=row["kind"],
        reason=row["reason"],
        held_at=row["held_at"].astimezone(UTC),
    )
