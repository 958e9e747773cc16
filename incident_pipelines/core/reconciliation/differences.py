"""The life of a difference: found, in flight, open, resolved by itself, reopened."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Literal

from incident_pipelines.core.reconciliation.comparison import Difference
from incident_pipelines.core.reconciliation.ledger_values import canonical_json, to_json, type_name
from incident_pipelines.core.reconciliation.values import Value

Explanation = Literal["in_flight", "incident"]
Change = Literal["new", "still_open", "values_changed", "reopened"]


@dataclass(frozen=True)
class Known:
    """What the ledger holds of a difference that was found before.

    Args:
        opened_at: when it was opened, or reopened last.
        values: digest of what both sides held when it was last seen.
    """

    first_seen: datetime
    opened_at: datetime
    last_seen: datetime
    resolved_at: datetime | None
    reopened: int
    explanation: Explanation | None
    incident_id: str | None
    values: str


@dataclass(frozen=True)
class Entry:
    """A difference as the ledger holds it from now on.

    Args:
        change: what this run did to it.
    """

    change: Change
    first_seen: datetime
    opened_at: datetime
    last_seen: datetime
    reopened: int
    explanation: Explanation | None
    incident_id: str | None
    values: str


@dataclass(frozen=True)
class Stake:
    """Money of a differing row; currency is empty where the rows name none."""

    amount: Decimal
    currency: str


def difference_id(reconciliation: str, difference: Difference) -> str:
    """Return what identifies a difference for good: of the reconciliation, the kind, the key and the occurrence."""
    key = [[name, type_name(value), to_json(value)] for name, value in sorted(difference.key.items())]
    told = canonical_json([reconciliation, difference.kind, key, difference.occurrence])
    return blake2b(told.encode(), digest_size=16).hexdigest()


def values_digest(difference: Difference) -> str:
    """Return a digest of what differs: it changes when one of both sides does."""
    told = canonical_json({name: list(pair) for name, pair in difference.columns.items()})
    return blake2b(told.encode(), digest_size=8).hexdigest()


def newest(difference: Difference, instants: Mapping[str, tuple[str, ...]]) -> datetime | None:
    """Return when the younger of both sides' rows was written or changed last; None if no column says so.

    Args:
        instants: side (``source``, ``target``) → its columns that hold instants.
    """
    found = [
        value
        for side, row in (("source", difference.source), ("target", difference.target))
        for name in instants.get(side, ())
        if (value := _instant((row or {}).get(name))) is not None
    ]
    return max(found, default=None)


def times_of(difference: Difference, time: str | None) -> tuple[datetime | None, datetime | None]:
    """Return the instants that the rows of source and target belong to; None for a side that does not say.

    Args:
        time: name of the declared time column in both rows; None where there is none.
    """
    source, target = (_instant((row or {}).get(time or "")) for row in (difference.source, difference.target))
    return source, target


def seen(known: Known | None, values: str, newest_at: datetime | None, as_of: datetime, grace: timedelta) -> Entry:
    """Return what a difference that was found is from now on.

    A row whose newest instant is less than the grace ago is in flight. Where no column says when it changed, or says
    an instant after `as_of` (a clock that is wrong must not hide a difference), the grace counts from when it was
    opened.

    Args:
        known: what the ledger holds; None for one that is new.
        values: `values_digest` of what was found.
        newest_at: `newest` of what was found.
        as_of: the instant of the run; aware.
        grace: how long a row may be on its way.
    """
    opened_at = as_of if known is None or known.resolved_at is not None else known.opened_at
    age = as_of - (newest_at if newest_at is not None and newest_at <= as_of else opened_at)
    explanation: Explanation | None = "in_flight" if age < grace else None
    incident_id = None
    if known is not None and known.resolved_at is None and known.explanation == "incident":
        explanation, incident_id = "incident", known.incident_id
    if known is None:
        change: Change = "new"
    elif known.resolved_at is not None:
        change = "reopened"
    else:
        change = "still_open" if known.values == values else "values_changed"
    return Entry(
        change=change,
        first_seen=as_of if known is None else known.first_seen,
        opened_at=opened_at,
        last_seen=as_of if known is None else max(known.last_seen, as_of),
        reopened=0 if known is None else known.reopened + (change == "reopened"),
        explanation=explanation,
        incident_id=incident_id,
        values=values,
    )


def stake(difference: Difference, amounts: Mapping[str, str], currencies: Mapping[str, str]) -> Stake | None:
    """Return the money at stake: what amounts differ by, or the larger amount where something else differs.

    Args:
        amounts: side → name, in its rows, of the column that holds the amount.
        currencies: side → name of the column that holds the currency.
    """
    found: list[Stake] = []
    for side, row in (("source", difference.source), ("target", difference.target)):
        amount = None if row is None else _number(row.get(amounts.get(side, "")))
        if row is not None and amount is not None:
            found.append(Stake(amount, str(row.get(currencies.get(side, "")) or "")))
    if not found:
        return None
    if len(found) == 2 and found[0].amount != found[1].amount and found[0].currency == found[1].currency:
        return Stake(abs(found[0].amount - found[1].amount), found[0].currency)
    largest = max(found, key=lambda one: abs(one.amount))
    return Stake(abs(largest.amount), largest.currency)


def gap_rate(unexplained: int, source_rows: int, target_rows: int) -> Decimal:
    """Return unexplained differences as a share of the rows looked at, those of the fuller side; at most 1."""
    rows = max(source_rows, target_rows)
    if unexplained == 0:
        return Decimal(0)
    return min(Decimal(1), Decimal(unexplained) / Decimal(rows)) if rows else Decimal(1)


def _instant(value: Value) -> datetime | None:
    """A text is taken for an instant where an engine has no type for one."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return datetime(value.year, value.month, value.day, tzinfo=UTC) if isinstance(value, date) else None


def _number(value: object) -> Decimal | None:
    match value:
        case bool():
            return None
        case Decimal():
            return value if value.is_finite() else None
        case int() | float():
            number = Decimal(str(value))
            return number if number.is_finite() else None
        case _:
            return None


def ledger_lock_key(reconciliation: str) -> int:
    """Return the number of the lock that makes its holder the one writer of a reconciliation's differences."""
    digest = blake2b(f"reconciliation {reconciliation}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
