"""Sample events → a first contract of their topic, for a person to complete."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from incident_pipelines.core.contracts.draft import CannotDraft, dataset_name
from incident_pipelines.core.contracts.draft_text import column_lines, contract_head, listed, scalar
from incident_pipelines.core.contracts.model import Column, ColumnType
from incident_pipelines.core.errors import InvalidIdentifier
from incident_pipelines.core.identifiers import identifier

_IDS = ("event_id", "id", "message_id", "uuid")
_TYPES = ("event_type", "type", "kind", "name", "event")
_TIMES = ("event_time", "occurred_at", "created_at", "timestamp", "time", "ts")
_VERSIONS = ("schema_version",)
_CASES = ("correlation_id", "trace_id")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
RETENTION_DAYS = 7


def draft_event_contract(topic: str, lines: Iterable[str]) -> str:
    """Write the contract of a topic's events as YAML, with comments on what a person has to look at.

    Args:
        topic: its name.
        lines: events as they stand on the topic, one JSON object a line.

    Raises:
        CannotDraft: a line is no JSON object, or no field can be the events' id, type or time.
    """
    events = [_event(topic, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not events:
        raise CannotDraft(f"topic {topic}: the sample holds no event; it takes one JSON object a line")
    values: dict[str, list[Any]] = {}
    for event in events:
        for name, value in event.items():
            values.setdefault(name, []).append(value)
    columns: dict[str, Column] = {}
    left_out: dict[str, str] = {}
    for name, found in values.items():
        column = _column(name, found, len(events))
        if isinstance(column, Column):
            columns[name] = column
        else:
            left_out[name] = column
    event_id = _one_of(topic, columns, "id of an event", _IDS, ("uuid", "text", "integer"))
    event_type = _one_of(topic, columns, "type of an event", _TYPES, ("text",))
    event_time = _one_of(topic, columns, "time of an event", _TIMES, ("timestamp",))
    needed = {event_id, event_type, event_time}
    version = next((name for name in _VERSIONS if name in columns), None)
    case = next((name for name in _CASES if name in columns), None)
    properties: dict[str, str] = {
        "dataset": "events",
        "topic": topic,
        "format": "json",
        "eventId": event_id,
        "eventType": event_type,
        "eventTime": event_time,
    }
    if version is not None:
        properties["schemaVersion"] = version
    if case is not None:
        properties["correlationId"] = case
    dataset = dataset_name(topic)
    return "\n".join(
        (
            f"# Events of topic {topic}, drawn from a sample of {len(events)}: look at what it does not show.",
            "# What a person knows better is marked TO FILL IN. All that a contract can say: docs/contracts.md.",
            *contract_head(dataset, f"Events of topic {topic}.", RETENTION_DAYS),
            "customProperties:",
            *(
                line
                for name, value in properties.items()
                for line in (f"- property: {name}", f"  value: {scalar(value)}")
            ),
            *(() if case else _CASE_COMMENT),
            "# Who can give an event again, in order of preference; docs/recovery.md has more of them.",
            "- property: recoverySources",
            f"  value: {listed(('landing_log', 'kafka'))}",
            "schema:",
            f"- name: {scalar(dataset)}",
            "  logicalType: object",
            "  properties:",
            *(f"  # {name!r} is left out: {why}." for name, why in left_out.items()),
            *(
                line
                for name, column in columns.items()
                for line in column_lines(
                    replace(column, unique=name == event_id),
                    required=column.required or name in needed,
                    key=name == event_id,
                )
            ),
            "",
        )
    )


_CASE_COMMENT = (
    "# TO FILL IN: the column that ties events and rows of one business case together, for `trace`.",
    "# - property: correlationId",
    "#   value: order_id",
)


def _event(topic: str, number: int, line: str) -> Mapping[str, Any]:
    try:
        event: Any = json.loads(line, parse_float=Decimal)
    except ValueError as error:
        raise CannotDraft(f"topic {topic}: line {number} of the sample is no JSON: {error}") from error
    if not isinstance(event, dict):
        raise CannotDraft(f"topic {topic}: line {number} of the sample is no JSON object")
    return cast(dict[str, Any], event)


def _column(name: str, values: Sequence[Any], events: int) -> Column | str:
    """Return the column that holds a field's values, or why none does."""
    try:
        identifier(name)
    except InvalidIdentifier:
        return "its name is not lower case letters, digits and _"
    present = [value for value in values if value is not None]
    kinds = {_type_of(value) for value in present}
    required = len(present) == events
    if not present:
        return "the sample has no value of it"
    if None in kinds:
        return "a contract has no type for objects and lists"
    if kinds <= {"integer", "numeric"}:
        if kinds == {"integer"}:
            return Column(name, "integer", required=required)
        scale = max(max(0, -cast(int, Decimal(value).as_tuple().exponent)) for value in present)
        return Column(name, "numeric", required=required, precision=max(18, scale + 12), scale=max(2, scale))
    if len(kinds) > 1 and kinds <= {"text", "uuid", "timestamp", "date"}:
        kinds = {"text"}
    if len(kinds) > 1:
        return f"its values are of several types: {', '.join(sorted(str(kind) for kind in kinds))}"
    return Column(name, cast(ColumnType, kinds.pop()), required=required)


def _type_of(value: Any) -> ColumnType | None:
    match value:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case Decimal():
            return "numeric"
        case str():
            return _type_of_text(value)
        case _:
            return None


def _type_of_text(text: str) -> ColumnType:
    if _UUID.fullmatch(text):
        return "uuid"
    if _DATE.fullmatch(text):
        return "date"
    try:
        return "timestamp" if datetime.fromisoformat(text).tzinfo is not None else "text"
    except ValueError:
        return "text"


def _one_of(
    topic: str, columns: Mapping[str, Column], what: str, names: Sequence[str], types: Sequence[ColumnType]
) -> str:
    fitting = [name for name, column in columns.items() if column.type in types]
    found = next((name for name in names if name in fitting), None)
    if found is None and types == ("timestamp",) and len(fitting) == 1:
        return fitting[0]
    if found is None:
        raise CannotDraft(
            f"topic {topic}: no field of the sample looks like the {what}: none of {', '.join(names)} with a value of "
            f"type {' or '.join(types)}; without the sample, copy contracts/events.yaml.example and fill it in"
        )
    return found
