"""The app's part of a sign-up: accepted once, then taken step by step to its end, whatever fails on the way.

Each step is a transaction of its own that changes the registration, writes the event, and says what is next. After a
crash the next start takes it up from there; what was asked of billing is asked again under the same key.
"""

import logging
import threading
from dataclasses import dataclass
from random import Random

import psycopg

from incident_pipelines.adapters.logs import fields
from incident_pipelines.core.errors import IncidentPipelinesError, SourceUnavailable
from incident_pipelines.example.cards import INTERNAL_ERROR, card_from, card_of
from incident_pipelines.example.databases import statement
from incident_pipelines.example.events import registration_event, timestamp_text
from incident_pipelines.example.live_outbox import add_to_outbox, now_us
from incident_pipelines.example.service import retries
from incident_pipelines.example.service.billing import PaymentRefused
from incident_pipelines.example.service.billing_http import BillingClient
from incident_pipelines.example.service.connections import Connections
from incident_pipelines.example.service.messages import PaymentState, request_from
from incident_pipelines.example.visits import MICROSECONDS, SignUp

LOGGER = logging.getLogger(__name__)
# A payment that is authorized is asked for again when its capture is due.
POLL_MARGIN_SECONDS = 0.2
POLL_SECONDS = 30.0


class ActivationRefused(IncidentPipelinesError):
    """An account cannot be activated, however often that is asked for."""


class UnknownRegistration(ActivationRefused):
    """There is no registration of that id."""


@dataclass(frozen=True)
class _Flow:
    sign_up: SignUp
    step: str
    card: str
    activation_delay_seconds: float
    failed_attempts: int
    status: str


class SignUps:
    """The app's sign-ups.

    Args:
        connections: the app's database.
        billing: takes the payments.
        random: source of the jitter in retries.
        sent: set when there is something to relay.
        due: set when a step may be due.
    """

    def __init__(
        self,
        connections: Connections,
        billing: BillingClient,
        random: Random,
        sent: threading.Event,
        due: threading.Event,
    ) -> None:
        self._connections = connections
        self._billing = billing
        self._random = random
        self._sent = sent
        self._due = due

    def accept(self, sign_up: SignUp, idempotency_key: str) -> bool:
        """Accept a sign-up: user, registration, events and what is next in one transaction.

        Args:
            sign_up: its terms; of its instants, how long activation takes.
            idempotency_key: made by the client for this attempt; asked again, nothing happens.

        Returns:
            Whether it is new.

        Raises:
            SourceUnavailable: not known whether it was accepted; asking again with the same key is safe.
        """
        with self._connections.transaction() as connection:
            accepted = connection.execute(
                statement("insert_idempotency_key"), (idempotency_key, sign_up.registration_id)
            ).rowcount
            if not accepted:
                return False
            submitted_us = now_us()
            user = sign_up.user_id
            created_us = max(now_us(), submitted_us + 1)
            created_at = timestamp_text(created_us)
            connection.execute(
                statement("insert_user"), (user, f"{user}@customers.example", sign_up.region, created_at)
            )
            connection.execute(
                statement("insert_registration"),
                (
                    sign_up.registration_id,
                    user,
                    sign_up.plan_id,
                    sign_up.currency,
                    sign_up.amount,
                    sign_up.app_version,
                    sign_up.region,
                    sign_up.platform,
                    created_at,
                ),
            )
            connection.execute(
                statement("insert_flow"),
                (sign_up.registration_id, "payment", card_of(sign_up).token, activation_seconds(sign_up), created_at),
            )
            add_to_outbox(
                connection,
                [
                    registration_event("registration_submitted", submitted_us, sign_up),
                    registration_event("registration_created", created_us, sign_up),
                ],
            )
        self._sent.set()
        self._due.set()
        return True

    def due(self, busy: list[str], limit: int) -> list[str]:
        """Return registration ids whose next step is due, the longest waiting first.

        Args:
            busy: registration ids to leave out.
            limit: most to return.
        """
        with self._connections.transaction() as connection:
            return [row[0] for row in connection.execute(statement("due_flows"), (busy, limit)).fetchall()]

    def advance(self, registration_id: str) -> None:
        """Do the next step of a sign-up.

        Raises:
            SourceUnavailable: the app's database does not answer. Billing's outages are dealt with here.
        """
        with self._connections.transaction() as connection:
            flow = _read(connection, registration_id)
        if flow is None:
            return
        try:
            match flow.step:
                case "payment" if card_from(flow.card).outcome == INTERNAL_ERROR:
                    self._fail(flow, INTERNAL_ERROR)
                case "payment":
                    self._take_payment(flow, self._billing.pay(request_from(flow.sign_up, flow.card)))
                case "activation":
                    self._activate(flow)
                case "invoice":
                    self._billing.invoice(registration_id)
                    self._finish(registration_id)
                case step:
                    raise ValueError(f"sign-up {registration_id} has an unknown step {step!r}")
        except PaymentRefused as error:
            LOGGER.error("billing refuses", extra=fields(correlation_id=registration_id, cause=str(error)))
            self._fail(flow, "payment_refused") if flow.step == "payment" else self._finish(registration_id)
        except SourceUnavailable as error:
            self._retry(flow, error)
        self._sent.set()
        self._due.set()

    def complete(self, registration_id: str) -> bool:
        """Activate a registration that is paid for, whatever step it is at; its invoice follows as always.

        Returns:
            Whether it was done now; False for one that is active already.

        Raises:
            ActivationRefused: calling again is no use: unknown, failed, or not paid for.
            SourceUnavailable: database or billing do not answer; calling again is safe.
        """
        with self._connections.transaction() as connection:
            row = connection.execute(statement("read_registration"), (registration_id,)).fetchone()
        if row is None:
            raise UnknownRegistration(f"there is no registration {registration_id}")
        user_id, plan_id, currency, amount, region, platform, version, status, reason = row
        if status == "activated":
            return False
        if status == "failed":
            raise ActivationRefused(f"registration {registration_id} has failed: {reason}")
        try:
            payment = self._billing.state(registration_id)
        except PaymentRefused as error:
            raise ActivationRefused(str(error)) from error
        if payment.status != "captured":
            raise ActivationRefused(f"the payment of {registration_id} is {payment.status}, not captured")
        sign_up = SignUp(registration_id, user_id, plan_id, currency, amount, region, platform, version, 0, 0)
        with self._connections.transaction() as connection:
            _read(connection, registration_id)  # locks its flow before the registration, as every step does
            activated_us = now_us()
            at = timestamp_text(activated_us)
            changed = connection.execute(statement("update_registration"), ("activated", None, at, registration_id))
            if not changed.rowcount:
                return False
            add_to_outbox(connection, [registration_event("account_activated", activated_us, sign_up)])
            connection.execute(statement("insert_flow"), (registration_id, "invoice", "", 0.0, at))
            connection.execute(statement("update_flow"), ("invoice", 0, 0.0, None, registration_id))
        self._sent.set()
        self._due.set()
        return True

    def _take_payment(self, flow: _Flow, payment: PaymentState) -> None:
        match payment.status:
            case "failed":
                self._fail(flow, payment.failure_reason or "payment_failed")
            case "captured":
                self._next(flow, "captured", "activation", flow.activation_delay_seconds)
            case "authorized":
                seconds = payment.capture_due_seconds
                wait_seconds = POLL_SECONDS if seconds is None else seconds + POLL_MARGIN_SECONDS
                self._next(flow, "authorized", "payment", wait_seconds)
            case _:
                self._next(flow, "initiated", "payment", POLL_MARGIN_SECONDS)

    def _next(self, flow: _Flow, status: str, step: str, wait_seconds: float) -> None:
        registration_id = flow.sign_up.registration_id
        with self._connections.transaction() as connection:
            current = _read(connection, registration_id)
            if current is None or current.step != flow.step:
                return
            if status != current.status:
                connection.execute(statement("update_registration"), (status, None, None, registration_id))
            connection.execute(statement("update_flow"), (step, 0, wait_seconds, None, registration_id))

    def _activate(self, flow: _Flow) -> None:
        registration_id = flow.sign_up.registration_id
        with self._connections.transaction() as connection:
            current = _read(connection, registration_id)
            if current is None or current.step != "activation":
                return
            activated_us = now_us()
            connection.execute(
                statement("update_registration"), ("activated", None, timestamp_text(activated_us), registration_id)
            )
            add_to_outbox(connection, [registration_event("account_activated", activated_us, flow.sign_up)])
            connection.execute(statement("update_flow"), ("invoice", 0, 0.0, None, registration_id))

    def _fail(self, flow: _Flow, reason: str) -> None:
        registration_id = flow.sign_up.registration_id
        with self._connections.transaction() as connection:
            current = _read(connection, registration_id)
            if current is None or current.step != flow.step:
                return
            connection.execute(statement("update_registration"), ("failed", reason, None, registration_id))
            add_to_outbox(connection, [registration_event("registration_failed", now_us(), flow.sign_up, reason)])
            connection.execute(statement("delete_flow"), (registration_id,))

    def _finish(self, registration_id: str) -> None:
        with self._connections.transaction() as connection:
            connection.execute(statement("delete_flow"), (registration_id,))

    def _retry(self, flow: _Flow, error: SourceUnavailable) -> None:
        registration_id = flow.sign_up.registration_id
        failed = flow.failed_attempts + 1
        wait_seconds = retries.delay_seconds(failed, self._random)
        LOGGER.warning(
            "billing call failed",
            extra=fields(correlation_id=registration_id, step=flow.step, attempt=failed, cause=str(error)),
        )
        if wait_seconds is None and flow.step == "payment":
            self._fail(flow, "billing_unavailable")
            return
        # An account is active by then: its invoice is asked for until there is one.
        wait_seconds = retries.MAX_DELAY_SECONDS if wait_seconds is None else wait_seconds
        with self._connections.transaction() as connection:
            connection.execute(
                statement("update_flow"), (flow.step, failed, wait_seconds, str(error)[:500], registration_id)
            )


def activation_seconds(sign_up: SignUp) -> float:
    """Return how long activation takes after the capture, as drawn."""
    if sign_up.activated_us is None or sign_up.captured_us is None:
        return 0.0
    return (sign_up.activated_us - sign_up.captured_us) / MICROSECONDS


def _read(connection: psycopg.Connection, registration_id: str) -> _Flow | None:
    row = connection.execute(statement("lock_flow"), (registration_id,)).fetchone()
    if row is None:
        return None
    step, card, delay_seconds, attempts, user_id, plan_id, currency, amount, region, platform, version, status = row
    sign_up = SignUp(registration_id, user_id, plan_id, currency, amount, region, platform, version, 0, 0)
    return _Flow(sign_up, step, card, delay_seconds, attempts, status)
