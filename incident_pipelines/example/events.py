"""Events as they go over the wire, and which ones a visit leaves behind."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

import msgspec

from incident_pipelines.example import identities
from incident_pipelines.example.visits import MICROSECONDS, SignUp, Visit

REGISTRATIONS = "registrations"
PAYMENTS = "payments"
PAGE_VIEWS = "page_views"
TOPICS = (REGISTRATIONS, PAYMENTS, PAGE_VIEWS)
TRANSACTIONAL_TOPICS = (REGISTRATIONS, PAYMENTS)
EVENT_TYPES = (
    "registration_submitted",
    "registration_created",
    "account_activated",
    "registration_failed",
    "payment_initiated",
    "payment_authorized",
    "payment_captured",
    "payment_failed",
    "invoice_issued",
    "page_viewed",
)
SCHEMA_VERSION = "1.0.0"


class Event(NamedTuple):
    """An event and what is needed to route, count and account for it.

    Args:
        time_us: when it happened, microseconds since 1970-01-01 UTC.
        topic: one of `TOPICS`.
        event_type: one of `EVENT_TYPES`.
        event_id: UUID as text.
        key: Kafka key, the correlation id (page views: the session id).
        region: segment it is counted in.
        platform: segment it is counted in.
        amount_cents: money it is about, in hundredths of the currency; 0 for page views.
        value: the bytes on the wire.
    """

    time_us: int
    topic: str
    event_type: str
    event_id: str
    key: str
    region: str
    platform: str
    amount_cents: int
    value: bytes


class RegistrationMessage(msgspec.Struct, omit_defaults=True, gc=False):
    """Value of topic `registrations`; absent means null."""

    event_id: str
    event_type: str
    schema_version: str
    correlation_id: str
    registration_id: str
    user_id: str
    plan_id: str
    currency: str
    amount: Decimal
    status: str
    created_at: str
    source: str
    app_version: str
    region: str
    platform: str
    failure_reason: str | None = None


class PaymentMessage(msgspec.Struct, omit_defaults=True, gc=False):
    """Value of topic `payments`; absent means null."""

    event_id: str
    event_type: str
    schema_version: str
    correlation_id: str
    registration_id: str
    payment_id: str
    user_id: str
    plan_id: str
    currency: str
    amount: Decimal
    status: str
    created_at: str
    source: str
    app_version: str
    region: str
    platform: str
    external_transaction_id: str | None = None
    failure_reason: str | None = None


class PageViewMessage(msgspec.Struct, omit_defaults=True, gc=False):
    """Value of topic `page_views`; absent means null."""

    event_id: str
    event_type: str
    schema_version: str
    session_id: str
    page: str
    created_at: str
    source: str
    app_version: str
    region: str
    platform: str
    correlation_id: str | None = None


# Amounts are JSON numbers that keep their cents: 9.90 and not 9.9.
_encode = msgspec.json.Encoder(decimal_format="number").encode
# From this page on the client has asked for a registration id.
_PAGES_OF_A_SIGN_UP = ("/signup", "/checkout")
_REGISTRATION_STATUS = {
    "registration_submitted": "initiated",
    "registration_created": "initiated",
    "account_activated": "activated",
    "registration_failed": "failed",
}
_PAYMENT_STATUS = {
    "payment_initiated": "initiated",
    "payment_authorized": "authorized",
    "payment_captured": "captured",
    "payment_failed": "failed",
    "invoice_issued": "captured",
}
_BEFORE_AUTHORIZATION = ("payment_initiated", "payment_failed")


@lru_cache(maxsize=4096)
def _minute_text(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:")


def timestamp_text(time_us: int) -> str:
    """Return ISO 8601 with microseconds and Z.

    Args:
        time_us: microseconds since 1970-01-01 UTC.
    """
    seconds, micro = divmod(time_us, MICROSECONDS)
    minute, second = divmod(seconds, 60)
    return f"{_minute_text(minute)}{second:02d}.{micro:06d}Z"


def registration_event(event_type: str, time_us: int, sign_up: SignUp, failure_reason: str | None = None) -> Event:
    """Return an event of topic `registrations`.

    Args:
        event_type: a type of that topic.
        time_us: when it happened, microseconds since 1970-01-01 UTC.
        sign_up: whose event it is; its instants are not looked at.
        failure_reason: for `registration_failed`.
    """
    correlation_id = sign_up.registration_id
    event_id = identities.event_id(correlation_id, event_type, 1)
    message = RegistrationMessage(
        event_id,
        event_type,
        SCHEMA_VERSION,
        correlation_id,
        correlation_id,
        sign_up.user_id,
        sign_up.plan_id,
        sign_up.currency,
        sign_up.amount,
        _REGISTRATION_STATUS[event_type],
        timestamp_text(time_us),
        "app",
        sign_up.app_version,
        sign_up.region,
        sign_up.platform,
        failure_reason,
    )
    return _event(time_us, REGISTRATIONS, event_type, event_id, sign_up, _encode(message))


def payment_event(event_type: str, time_us: int, sign_up: SignUp, failure_reason: str | None = None) -> Event:
    """Return an event of topic `payments`.

    Args:
        event_type: a type of that topic.
        time_us: when it happened, microseconds since 1970-01-01 UTC.
        sign_up: whose event it is; its instants are not looked at.
        failure_reason: for `payment_failed`.
    """
    correlation_id = sign_up.registration_id
    event_id = identities.event_id(correlation_id, event_type, 1)
    message = PaymentMessage(
        event_id,
        event_type,
        SCHEMA_VERSION,
        correlation_id,
        correlation_id,
        identities.payment_id(correlation_id),
        sign_up.user_id,
        sign_up.plan_id,
        sign_up.currency,
        sign_up.amount,
        _PAYMENT_STATUS[event_type],
        timestamp_text(time_us),
        "billing",
        sign_up.app_version,
        sign_up.region,
        sign_up.platform,
        None if event_type in _BEFORE_AUTHORIZATION else identities.external_transaction_id(correlation_id),
        failure_reason,
    )
    return _event(time_us, PAYMENTS, event_type, event_id, sign_up, _encode(message))


def page_view_event(time_us: int, visit: Visit, page: str, sequence: int) -> Event:
    """Return an event of topic `page_views`.

    Args:
        time_us: when it happened, microseconds since 1970-01-01 UTC.
        visit: whose page view it is.
        page: path that was shown.
        sequence: which page of the visit, from 1.
    """
    session_id = visit.session_id
    event_id = identities.event_id(session_id, "page_viewed", sequence)
    known = visit.sign_up is not None and page in _PAGES_OF_A_SIGN_UP
    message = PageViewMessage(
        event_id,
        "page_viewed",
        SCHEMA_VERSION,
        session_id,
        page,
        timestamp_text(time_us),
        "storefront",
        visit.app_version,
        visit.region,
        visit.platform,
        visit.sign_up.registration_id if known and visit.sign_up else None,
    )
    return Event(
        time_us, PAGE_VIEWS, "page_viewed", event_id, session_id, visit.region, visit.platform, 0, _encode(message)
    )


def events_of(visit: Visit) -> Iterator[Event]:
    """Yield all events of a visit; those with one correlation id come in order of time."""
    for sequence, (time_us, page) in enumerate(visit.pages, 1):
        yield page_view_event(time_us, visit, page, sequence)
    sign_up = visit.sign_up
    if sign_up is None:
        return
    yield registration_event("registration_submitted", sign_up.submitted_us, sign_up)
    yield registration_event("registration_created", sign_up.created_us, sign_up)
    if sign_up.initiated_us is not None:
        yield payment_event("payment_initiated", sign_up.initiated_us, sign_up)
    if sign_up.authorized_us is not None:
        yield payment_event("payment_authorized", sign_up.authorized_us, sign_up)
    if sign_up.captured_us is not None:
        yield payment_event("payment_captured", sign_up.captured_us, sign_up)
    if sign_up.activated_us is not None:
        yield registration_event("account_activated", sign_up.activated_us, sign_up)
    if sign_up.invoiced_us is not None:
        yield payment_event("invoice_issued", sign_up.invoiced_us, sign_up)
    if sign_up.payment_failed_us is not None:
        yield payment_event("payment_failed", sign_up.payment_failed_us, sign_up, sign_up.failure_reason)
    if sign_up.failed_us is not None:
        yield registration_event("registration_failed", sign_up.failed_us, sign_up, sign_up.failure_reason)


def _event(time_us: int, topic: str, event_type: str, event_id: str, sign_up: SignUp, value: bytes) -> Event:
    cents = int(sign_up.amount.scaleb(2))
    return Event(
        time_us, topic, event_type, event_id, sign_up.registration_id, sign_up.region, sign_up.platform, cents, value
    )
