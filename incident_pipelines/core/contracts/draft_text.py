"""The YAML text of a drafted contract: parts that every kind of dataset has."""

from collections.abc import Iterator, Sequence

import yaml

from incident_pipelines.core.contracts.model import Column, ColumnType

_LOGICAL: dict[ColumnType, str] = {
    "uuid": "string",
    "text": "string",
    "integer": "integer",
    "numeric": "number",
    "boolean": "boolean",
    "timestamp": "timestamp",
    "date": "date",
}
_PERSONAL = ("email", "phone", "first_name", "last_name", "full_name", "surname", "birth", "iban", "street", "passport")


def scalar(value: str | float) -> str:
    """Write one value so that YAML reads the same value."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def listed(values: Sequence[str]) -> str:
    """Write a list on one line."""
    return f"[{', '.join(map(scalar, values))}]"


def contract_head(dataset: str, purpose: str, retention_days: int | None = None) -> Iterator[str]:
    """Yield what stands before `customProperties`."""
    yield "apiVersion: v3.1.0"
    yield "kind: DataContract"
    yield f"id: {scalar(dataset)}"
    yield f"name: {scalar(dataset)}"
    yield "version: 1.0.0"
    yield "status: active"
    yield "description:"
    yield f"  purpose: {scalar(purpose)}  # TO FILL IN: what a row means"
    yield "team:"
    yield "  name: data team  # TO FILL IN: who answers for it"
    yield "slaProperties:"
    if retention_days is not None:
        yield "# Floor of the topic's retention."
        yield "- property: retention"
        yield f"  value: {retention_days}"
        yield "  unit: d"
    yield "# How old the newest window may be."
    yield "- property: freshness"
    yield "  value: 10"
    yield "  unit: m"


def column_lines(column: Column, *, required: bool, key: bool) -> Iterator[str]:
    """Yield the lines of one column.

    Args:
        required: whether it must have a value.
        key: whether it is part of the primary key.
    """
    yield f"  - name: {scalar(column.name)}"
    yield f"    logicalType: {_LOGICAL[column.type]}"
    if column.type in ("uuid", "numeric"):
        yield f"    physicalType: {column.sql_type}"
    if column.description:
        yield f"    description: {scalar(column.description)}"
    if key:
        yield "    primaryKey: true"
    if required or key:
        yield "    required: true"
    if column.unique:
        yield "    unique: true"
    if column.type == "uuid":
        yield "    logicalTypeOptions: {format: uuid}"
    elif column.max_length is not None:
        yield f"    logicalTypeOptions: {{maxLength: {column.max_length}}}"
    if column.allowed:
        yield "    enum:"
        yield from (f"    - value: {scalar(value)}" for value in column.allowed)
    if any(word in column.name for word in _PERSONAL):
        yield "    classification: pii  # by its name: masked wherever it is shown"
