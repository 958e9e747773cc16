"""Writes the rows of a history slice into the app and the billing database, by COPY."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import LiteralString

import psycopg

from incident_pipelines.example import identities
from incident_pipelines.example.databases import statement
from incident_pipelines.example.events import PAYMENTS, REGISTRATIONS, Event, timestamp_text
from incident_pipelines.example.history import Slice
from incident_pipelines.example.visits import MINUTE_US, SignUp

LANE = "history"
_NULL = r"\N"


def write_app_rows(connection: psycopg.Connection, part: Slice, *, published: bool) -> int:
    """Write users, registrations, outbox and control totals of a slice; the caller commits.

    Args:
        published: whether the outbox rows are marked as sent already.

    Returns:
        Rows written, outbox included.
    """
    created = [sign_up for sign_up in part.sign_ups if part.start_us <= sign_up.created_us < part.end_us]
    changed = [
        sign_up
        for sign_up in part.sign_ups
        if sign_up.created_us < part.start_us
        and sign_up.registration_at(part.start_us) != sign_up.registration_at(part.end_us)
    ]
    _copy(connection, "COPY users (user_id, email, region, created_at) FROM STDIN", map(_user_line, created))
    _copy(
        connection,
        "COPY registrations (registration_id, user_id, plan_id, currency, amount, status, failure_reason, source,"
        " app_version, region, platform, created_at, activated_at) FROM STDIN",
        (_registration_line(sign_up, part.end_us) for sign_up in created),
    )
    if changed:
        connection.execute(statement("create_changed_registrations"))
        _copy(
            connection,
            "COPY changed_registrations FROM STDIN",
            (_changed_registration_line(sign_up, part.end_us) for sign_up in changed),
        )
        connection.execute(statement("update_changed_registrations"))
    events = [event for event in part.events if event.topic == REGISTRATIONS]
    write_outbox(connection, events, published=published)
    # Page views have no database of their own; the app counts them.
    add_control_totals(connection, (event for event in part.events if event.topic != PAYMENTS))
    return 2 * len(created) + len(changed) + len(events)


def write_billing_rows(connection: psycopg.Connection, part: Slice, *, published: bool) -> int:
    """Write payments, invoices, outbox and control totals of a slice; the caller commits.

    Args:
        published: whether the outbox rows are marked as sent already.

    Returns:
        Rows written, outbox included.
    """
    created: list[SignUp] = []
    changed: list[SignUp] = []
    invoiced: list[SignUp] = []
    for sign_up in part.sign_ups:
        if sign_up.initiated_us is None or sign_up.initiated_us >= part.end_us:
            continue
        if sign_up.initiated_us >= part.start_us:
            created.append(sign_up)
        elif sign_up.payment_at(part.start_us) != sign_up.payment_at(part.end_us):
            changed.append(sign_up)
        if sign_up.invoiced_us is not None and part.start_us <= sign_up.invoiced_us < part.end_us:
            invoiced.append(sign_up)
    _copy(
        connection,
        "COPY payments (payment_id, registration_id, user_id, external_transaction_id, plan_id, currency, amount,"
        " status, failure_reason, app_version, region, platform, created_at, captured_at) FROM STDIN",
        (_payment_line(sign_up, part.end_us) for sign_up in created),
    )
    if changed:
        connection.execute(statement("create_changed_payments"))
        _copy(
            connection,
            "COPY changed_payments FROM STDIN",
            (_changed_payment_line(sign_up, part.end_us) for sign_up in changed),
        )
        connection.execute(statement("update_changed_payments"))
    _copy(
        connection,
        "COPY invoices (invoice_id, payment_id, registration_id, currency, amount, created_at) FROM STDIN",
        map(_invoice_line, invoiced),
    )
    events = [event for event in part.events if event.topic == PAYMENTS]
    write_outbox(connection, events, published=published)
    add_control_totals(connection, events)
    return len(created) + len(changed) + len(invoiced) + len(events)


def write_outbox(connection: psycopg.Connection, events: Sequence[Event], *, published: bool) -> None:
    """Append events to the lane of the history, in their order."""
    _copy(
        connection,
        "COPY outbox (event_id, topic, event_type, correlation_id, value, created_at) FROM STDIN",
        (
            f"{event.event_id}\t{event.topic}\t{event.event_type}\t{event.key}\t{_bytea(event.value)}\t"
            f"{timestamp_text(event.time_us)}\n"
            for event in events
        ),
    )
    if not published:
        _copy(
            connection,
            "COPY outbox_unpublished (lane, event_id) FROM STDIN",
            (f"{LANE}\t{event.event_id}\n" for event in events),
        )


def add_control_totals(connection: psycopg.Connection, events: Iterable[Event]) -> None:
    """Add events to the count of their minute, topic, region and platform."""
    counts = Counter(
        (event.time_us // MINUTE_US * MINUTE_US, event.topic, event.region, event.platform) for event in events
    )
    if not counts:
        return
    # Sorted, so that two writers take the rows' locks in one order.
    keys = sorted(counts)
    connection.execute(
        statement("add_control_totals"),
        (
            [timestamp_text(key[0]) for key in keys],
            [key[1] for key in keys],
            [key[2] for key in keys],
            [key[3] for key in keys],
            [counts[key] for key in keys],
        ),
    )


def _copy(connection: psycopg.Connection, sql: LiteralString, lines: Iterable[str]) -> None:
    data = "".join(lines)
    if data:
        with connection.cursor().copy(sql) as copy:
            copy.write(data.encode())


def _user_line(sign_up: SignUp) -> str:
    user = sign_up.user_id
    return f"{user}\t{user}@customers.example\t{sign_up.region}\t{timestamp_text(sign_up.created_us)}\n"


def _registration_line(sign_up: SignUp, instant_us: int) -> str:
    status, reason, activated_us = sign_up.registration_at(instant_us)
    return (
        f"{sign_up.registration_id}\t{sign_up.user_id}\t{sign_up.plan_id}\t{sign_up.currency}\t{sign_up.amount}\t"
        f"{status}\t{reason or _NULL}\tapp\t{sign_up.app_version}\t{sign_up.region}\t{sign_up.platform}\t"
        f"{timestamp_text(sign_up.created_us)}\t{_instant(activated_us)}\n"
    )


def _changed_registration_line(sign_up: SignUp, instant_us: int) -> str:
    status, reason, activated_us = sign_up.registration_at(instant_us)
    return f"{sign_up.registration_id}\t{status}\t{reason or _NULL}\t{_instant(activated_us)}\n"


def _payment_line(sign_up: SignUp, instant_us: int) -> str:
    status, reason, captured_us = sign_up.payment_at(instant_us)
    assert sign_up.initiated_us is not None
    return (
        f"{identities.payment_id(sign_up.registration_id)}\t{sign_up.registration_id}\t{sign_up.user_id}\t"
        f"{_transaction(sign_up, instant_us)}\t{sign_up.plan_id}\t{sign_up.currency}\t{sign_up.amount}\t{status}\t"
        f"{reason or _NULL}\t{sign_up.app_version}\t{sign_up.region}\t{sign_up.platform}\t"
        f"{timestamp_text(sign_up.initiated_us)}\t{_instant(captured_us)}\n"
    )


def _changed_payment_line(sign_up: SignUp, instant_us: int) -> str:
    status, reason, captured_us = sign_up.payment_at(instant_us)
    payment = identities.payment_id(sign_up.registration_id)
    return f"{payment}\t{status}\t{reason or _NULL}\t{_instant(captured_us)}\t{_transaction(sign_up, instant_us)}\n"


def _invoice_line(sign_up: SignUp) -> str:
    assert sign_up.invoiced_us is not None
    registration = sign_up.registration_id
    return (
        f"{identities.invoice_id(registration)}\t{identities.payment_id(registration)}\t{registration}\t"
        f"{sign_up.currency}\t{sign_up.amount}\t{timestamp_text(sign_up.invoiced_us)}\n"
    )


def _transaction(sign_up: SignUp, instant_us: int) -> str:
    if sign_up.authorized_us is None or sign_up.authorized_us >= instant_us:
        return _NULL
    return identities.external_transaction_id(sign_up.registration_id)


def _instant(instant_us: int | None) -> str:
    return _NULL if instant_us is None else timestamp_text(instant_us)


def _bytea(value: bytes) -> str:
    text = value.decode()
    # The escape format of bytea takes ASCII as it is, at half the size of hex.
    return text.replace("\\", "\\\\\\\\") if text.isascii() else "\\\\x" + value.hex()
