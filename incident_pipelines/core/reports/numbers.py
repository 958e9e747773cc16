"""Numbers and times as reports show them."""

from datetime import datetime
from decimal import Decimal, InvalidOperation

from incident_pipelines.core.recovery.loss import DatasetLoss, Restated

_MILLION = 1_000_000


def about(count: int) -> str:
    """Return a count as a headline says it: exactly below a million, else with two digits."""
    return f"{count:,}" if count < _MILLION else f"{count / _MILLION:.{1 if count < 10 * _MILLION else 0}f} M"


def counted(count: int, unit: str) -> str:
    """Return a count with its unit."""
    return f"{count:,} {unit}{'' if count == 1 else 's'}"


def at(instant: datetime | None) -> str:
    """Return an instant to the minute."""
    return "not known" if instant is None else f"{instant:%Y-%m-%d %H:%M} UTC"


def change(one: Restated) -> str:
    """Return by how much a number has moved, with its sign."""
    return f"{Decimal(one.after) - Decimal(one.before):+,}"


def percent(one: Restated) -> str:
    """Return by what share of its former value a number has moved, with its sign."""
    before, after = Decimal(one.before), Decimal(one.after)
    if not before:
        return "from nothing"
    share = (after - before) / abs(before) * 100
    return f"{share:+.2f} %" if abs(share) >= Decimal("0.01") else f"{share:+.2g} %"


def number(text: str) -> str:
    """Return a number that was kept as text, with separators."""
    try:
        return f"{Decimal(text):,}"
    except InvalidOperation:
        return text


def is_rows(one: Restated) -> bool:
    """Whether it is the number of rows, and no column."""
    return one.column == "rows"


def stands_on(one: DatasetLoss) -> str:
    """Return what the numbers of a dataset stand on."""
    match one.basis:
        case "nothing":
            return "nothing of it was suspected of being missing"
        case "source":
            return "exact: its table was read again to its end"
        case "totals":
            silent = "; a source that did not answer may still have some" if one.unknown_at_most else ""
            return f"exact: the producer's control totals{silent}"
        case "offsets":
            if one.unknown_at_most is None:
                return "not known: there are no control totals, and no offsets bound it"
            if one.unknown_at_most:
                return "a bound: offsets that aged out, which count what is no record too"
            return "a bound: no more offsets aged out than events were brought back"
