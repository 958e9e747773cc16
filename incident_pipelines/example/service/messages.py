"""What the app and billing tell each other over HTTP."""

from decimal import Decimal

import msgspec

from incident_pipelines.example.visits import SignUp


class PaymentRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Asks billing to take the payment of a sign-up; the registration id is the idempotency key."""

    registration_id: str
    user_id: str
    plan_id: str
    currency: str
    amount: str
    region: str
    platform: str
    app_version: str
    card: str


class PaymentState(msgspec.Struct, frozen=True):
    """How far a payment is; `capture_due_seconds` from now, while it is authorized."""

    status: str
    failure_reason: str | None = None
    capture_due_seconds: float | None = None


class InvoiceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Asks billing for the invoice of a captured payment."""

    registration_id: str


class PaymentQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Asks billing how far a payment is, and for nothing else."""

    registration_id: str


def sign_up_from(request: PaymentRequest) -> SignUp:
    """Return the terms of a sign-up, without its instants."""
    return SignUp(
        request.registration_id,
        request.user_id,
        request.plan_id,
        request.currency,
        Decimal(request.amount),
        request.region,
        request.platform,
        request.app_version,
        0,
        0,
    )


def request_from(sign_up: SignUp, card: str) -> PaymentRequest:
    """Return the request that pays for a sign-up."""
    return PaymentRequest(
        sign_up.registration_id,
        sign_up.user_id,
        sign_up.plan_id,
        sign_up.currency,
        str(sign_up.amount),
        sign_up.region,
        sign_up.platform,
        sign_up.app_version,
        card,
    )
