"""Billing: takes payments through a simulated card processor, captures them, issues invoices."""

import threading
import time
from dataclasses import dataclass
from datetime import datetime
from random import Random

import msgspec
import psycopg

from incident_pipelines.core.errors import IncidentPipelinesError
from incident_pipelines.example import identities
from incident_pipelines.example.cards import APPROVED, DECLINED, UNAVAILABLE, card_from
from incident_pipelines.example.databases import statement
from incident_pipelines.example.events import payment_event, timestamp_text
from incident_pipelines.example.live_outbox import add_to_outbox, now_us
from incident_pipelines.example.service.connections import Connections
from incident_pipelines.example.service.messages import PaymentRequest, PaymentState, sign_up_from
from incident_pipelines.example.visits import MICROSECONDS

SERVER_TIMEOUT_SECONDS = 5.0
# A capture that is due sooner is waited for within the request.
CAPTURE_WITHIN_REQUEST_SECONDS = 0.3
CAPTURE_BATCH = 50


class PaymentRefused(IncidentPipelinesError):
    """The request cannot be served however often it is sent."""


class BillingBusy(IncidentPipelinesError):
    """Billing cannot answer now; sending the request again is safe."""


@dataclass(frozen=True)
class _Payment:
    request: PaymentRequest
    status: str
    failure_reason: str | None
    capture_due_at: datetime | None


class Billing:
    """Billing's operations, each safe to call again with the same idempotency key: the registration id.

    Args:
        connections: billing's database.
        random: decides how long the card processor takes.
        sent: set when there is something to relay.
        stopping: ends waiting for the card processor.
    """

    def __init__(
        self, connections: Connections, random: Random, sent: threading.Event, stopping: threading.Event
    ) -> None:
        self._connections = connections
        self._random = random
        self._sent = sent
        self._stopping = stopping

    def pay(self, request: PaymentRequest) -> PaymentState:
        """Take a payment as far as it goes within the server's time-out.

        Raises:
            PaymentRefused: the key was used for another payment.
            BillingBusy: not done in time, or the card processor does not answer.
            SourceUnavailable: the database does not answer.
        """
        deadline = time.monotonic() + SERVER_TIMEOUT_SECONDS
        card = card_from(request.card)
        if card.outcome == UNAVAILABLE:
            raise BillingBusy("the card processor does not answer")
        payment = self._initiate(request)
        if payment.status == "initiated":
            self._wait(self._random.uniform(0.2, 1.6), deadline)
            payment = self._authorize(request.registration_id, card.outcome, card.capture_seconds)
        if payment.status == "authorized" and payment.capture_due_at is not None:
            due_seconds = payment.capture_due_at.timestamp() - time.time()
            if due_seconds <= CAPTURE_WITHIN_REQUEST_SECONDS:
                self._wait(max(due_seconds, 0.0), deadline)
                payment = self.capture(request.registration_id)
        return _state(payment)

    def state(self, registration_id: str) -> PaymentState:
        """Return how far a payment is; takes none.

        Raises:
            PaymentRefused: there is no such payment.
            SourceUnavailable: the database does not answer.
        """
        with self._connections.transaction() as connection:
            return _state(_lock(connection, registration_id))

    def capture(self, registration_id: str) -> _Payment:
        """Capture a payment that is authorized; anything else is left as it is."""
        with self._connections.transaction() as connection:
            payment = _lock(connection, registration_id)
            if payment.status != "authorized":
                return payment
            captured_us = now_us()
            connection.execute(
                statement("update_payment"),
                ("captured", None, None, timestamp_text(captured_us), None, registration_id),
            )
            event = payment_event("payment_captured", captured_us, sign_up_from(payment.request))
            add_to_outbox(connection, [event])
            payment = _lock(connection, registration_id)
        self._sent.set()
        return payment

    def capture_due(self) -> int:
        """Capture payments whose time has come and return how many."""
        with self._connections.transaction() as connection:
            due = connection.execute(statement("due_captures"), (CAPTURE_BATCH,)).fetchall()
        for (registration_id,) in due:
            self.capture(registration_id)
        return len(due)

    def invoice(self, registration_id: str) -> None:
        """Issue the invoice of a captured payment, once.

        Raises:
            PaymentRefused: there is no such payment, or it is not captured.
        """
        with self._connections.transaction() as connection:
            payment = _lock(connection, registration_id)
            if payment.status != "captured":
                raise PaymentRefused(f"the payment of {registration_id} is {payment.status}, not captured")
            issued_us = now_us()
            inserted = connection.execute(
                statement("insert_invoice"),
                (
                    identities.invoice_id(registration_id),
                    identities.payment_id(registration_id),
                    registration_id,
                    payment.request.currency,
                    payment.request.amount,
                    timestamp_text(issued_us),
                ),
            ).rowcount
            if inserted:
                event = payment_event("invoice_issued", issued_us, sign_up_from(payment.request))
                add_to_outbox(connection, [event])
        self._sent.set()

    def _initiate(self, request: PaymentRequest) -> _Payment:
        with self._connections.transaction() as connection:
            created_us = now_us()
            inserted = connection.execute(
                statement("insert_payment"),
                (
                    identities.payment_id(request.registration_id),
                    request.registration_id,
                    request.user_id,
                    request.plan_id,
                    request.currency,
                    request.amount,
                    request.app_version,
                    request.region,
                    request.platform,
                    timestamp_text(created_us),
                ),
            ).rowcount
            if inserted:
                add_to_outbox(connection, [payment_event("payment_initiated", created_us, sign_up_from(request))])
            payment = _lock(connection, request.registration_id)
        self._sent.set()
        if msgspec.structs.replace(payment.request, card=request.card) != request:
            raise PaymentRefused(f"the payment of {request.registration_id} was asked for with other terms")
        return payment

    def _authorize(self, registration_id: str, outcome: str, capture_seconds: float) -> _Payment:
        with self._connections.transaction() as connection:
            payment = _lock(connection, registration_id)
            # The same request sent twice at the same time: the other one was faster.
            if payment.status != "initiated":
                return payment
            at_us = now_us()
            sign_up = sign_up_from(payment.request)
            if outcome == APPROVED:
                due = timestamp_text(at_us + int(capture_seconds * MICROSECONDS))
                transaction = identities.external_transaction_id(registration_id)
                values = ("authorized", None, transaction, None, due, registration_id)
                event = payment_event("payment_authorized", at_us, sign_up)
            else:
                reason = DECLINED if outcome == DECLINED else "processor_error"
                values = ("failed", reason, None, None, None, registration_id)
                event = payment_event("payment_failed", at_us, sign_up, reason)
            connection.execute(statement("update_payment"), values)
            add_to_outbox(connection, [event])
            payment = _lock(connection, registration_id)
        self._sent.set()
        return payment

    def _wait(self, seconds: float, deadline: float) -> None:
        left = deadline - time.monotonic()
        if self._stopping.wait(min(seconds, left)) or seconds > left:
            raise BillingBusy("not done in time")


def _lock(connection: psycopg.Connection, registration_id: str) -> _Payment:
    row = connection.execute(statement("lock_payment"), (registration_id,)).fetchone()
    if row is None:
        raise PaymentRefused(f"there is no payment of {registration_id}")
    user_id, plan_id, currency, amount, region, platform, app_version, status, reason, due_at = row
    request = PaymentRequest(
        registration_id, user_id, plan_id, currency, str(amount), region, platform, app_version, card=""
    )
    return _Payment(request, status, reason, due_at)


def _state(payment: _Payment) -> PaymentState:
    due_at = payment.capture_due_at
    seconds = max(due_at.timestamp() - time.time(), 0.0) if due_at is not None else None
    return PaymentState(payment.status, payment.failure_reason, seconds)
