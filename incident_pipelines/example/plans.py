"""Plans on sale and what they cost in each currency."""

from dataclasses import dataclass
from decimal import Decimal

BASE_CURRENCY = "EUR"


@dataclass(frozen=True)
class Plan:
    """A plan on sale.

    Args:
        plan_id: identifies the plan.
        name: as customers see it.
        share: share of sign-ups that choose it.
        prices: price by currency, in units of that currency.
    """

    plan_id: str
    name: str
    share: float
    prices: dict[str, Decimal]


def _plan(plan_id: str, name: str, share: float, eur: str, usd: str, gbp: str) -> Plan:
    return Plan(plan_id, name, share, {"EUR": Decimal(eur), "USD": Decimal(usd), "GBP": Decimal(gbp)})


PLANS = (
    _plan("premium_monthly", "Premium, monthly", 0.46, "9.99", "10.99", "8.99"),
    _plan("premium_trial", "Premium, first month free", 0.28, "0.00", "0.00", "0.00"),
    _plan("premium_yearly", "Premium, yearly", 0.18, "99.00", "109.00", "89.00"),
    _plan("premium_family", "Premium for families, monthly", 0.08, "17.99", "19.99", "15.99"),
)
