"""Test cards: the token in a payment request decides what the simulated card processor does with it."""

from dataclasses import dataclass

from incident_pipelines.example.visits import MICROSECONDS, SignUp

APPROVED = "approved"
DECLINED = "card_declined"
PROCESSOR_ERROR = "processor_error"
INTERNAL_ERROR = "internal_error"
UNAVAILABLE = "billing_unavailable"


@dataclass(frozen=True)
class Card:
    """What happens to a payment.

    Args:
        outcome: one of the constants above.
        capture_seconds: from authorization to capture.
    """

    outcome: str
    capture_seconds: float = 0.0

    @property
    def token(self) -> str:
        """The card as a payment request carries it."""
        return f"{self.outcome}:{self.capture_seconds:.3f}"


def card_from(token: str) -> Card:
    """Parse a token.

    Raises:
        ValueError: it is no test card.
    """
    outcome, _, seconds = token.partition(":")
    if outcome not in (APPROVED, DECLINED, PROCESSOR_ERROR, INTERNAL_ERROR, UNAVAILABLE):
        raise ValueError(f"{token!r} is no test card")
    return Card(outcome, float(seconds or 0.0))


def card_of(sign_up: SignUp) -> Card:
    """Return the card with which a sign-up ends as it was drawn."""
    if sign_up.failure_reason is not None:
        return Card(sign_up.failure_reason)
    if sign_up.authorized_us is None or sign_up.captured_us is None:
        return Card(APPROVED)
    return Card(APPROVED, (sign_up.captured_us - sign_up.authorized_us) / MICROSECONDS)
