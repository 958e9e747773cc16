"""Reconciliation → what the engine compares, and under which names a differing row then holds times and money."""

from collections.abc import Mapping
from dataclasses import dataclass

from incident_pipelines.core.reconciliation.comparison import ComparedColumn, Comparison
from incident_pipelines.core.reconciliation.declaration import KeyColumn, Reconciliation, ValueColumn


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Args:
        changed: the same by the columns that move with every change; None where none does.
        instants: side (``source``, ``target``) → names, in a differing row, of what says when it was last written.
        amounts, currencies: side → name of the column that holds it.
    """

    comparison: Comparison
    changed: Comparison | None
    instants: Mapping[str, tuple[str, ...]]
    amounts: Mapping[str, str]
    currencies: Mapping[str, str]


def plan_of(declared: Reconciliation) -> Plan:
    """Return what is compared; columns that are needed and not compared are carried."""
    key = tuple(_compared(column) for column in declared.key)
    columns = tuple(_compared(column) for column in declared.columns)
    known = [*key, *columns]
    carried: list[ComparedColumn] = []

    def named(source: str | None, target: str | None) -> dict[str, str]:
        """Give the name of a column on each side that has it; carry what is not read yet."""
        names: dict[str, str] = {}
        for side, column in (("source", source), ("target", target)):
            for one in (*known, *carried):
                if column and (one.source if side == "source" else one.target) == column:
                    names.setdefault(side, one.name)
        left_source = source if source and "source" not in names else ""
        left_target = target if target and "target" not in names else ""
        if left_source or left_target:
            name = _free(left_source or left_target, {one.name for one in (*known, *carried)})
            carried.append(ComparedColumn(name, left_source, left_target))
            names |= {side: name for side, left in (("source", left_source), ("target", left_target)) if left}
        return names

    time: ComparedColumn | None = None
    instants: dict[str, tuple[str, ...]] = {}
    if declared.time:
        source, target = declared.time.source or "", declared.time.target or ""
        same = [one for one in known if (one.source, one.target) == (source, target)]
        time = same[0] if same else ComparedColumn(_free(source, {one.name for one in known}), source, target)
        known.append(time)
        instants = {"source": (time.name,), "target": (time.name,)}
    if declared.changed:
        for side, name in named(declared.changed.source, declared.changed.target).items():
            instants[side] = (*instants.get(side, ()), name)
    money = declared.money
    amounts = named(money.source, money.target) if money else {}
    currencies = (
        named(*(money.currency if side in amounts else None for side in ("source", "target")))
        if money and money.currency
        else {}
    )
    return Plan(
        comparison=Comparison(key, columns, time, tuple(carried)),
        changed=_by_change(declared, key, columns, time, carried),
        instants=instants,
        amounts=amounts,
        currencies=currencies,
    )


def _by_change(
    declared: Reconciliation,
    key: tuple[ComparedColumn, ...],
    columns: tuple[ComparedColumn, ...],
    time: ComparedColumn | None,
    carried: list[ComparedColumn],
) -> Comparison | None:
    """The same comparison with the rows chosen by when they changed; every row holds the same names."""
    if declared.changed is None:
        return None
    source, target = declared.changed.source or "", declared.changed.target or ""
    known = [*key, *columns, *([time] if time else []), *carried]
    same = [one for one in known if (one.source, one.target) == (source, target)]
    changed = same[0] if same else ComparedColumn(_free(source or target, {one.name for one in known}), source, target)
    if changed == time:
        return None
    others = [one for one in known if one not in (*key, *columns) and one != changed]
    return Comparison(key, columns, changed, tuple(others))


def _compared(column: KeyColumn) -> ComparedColumn:
    if isinstance(column, ValueColumn):
        return ComparedColumn(column.name, column.source_name, column.target_name, column.tolerance, column.ignore_case)
    return ComparedColumn(column.name, column.source_name, column.target_name)


def _free(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
