"""Open Data Contract Standard YAML → contract.

What the standard has no word for stands under ``customProperties``; the names are listed in docs/contracts.md.
"""

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, cast

from jsonschema import Draft201909Validator
from open_data_contract_standard.model import DataQuality, OpenDataContractStandard, SchemaProperty

from incident_pipelines.core.contracts.model import (
    Anchor,
    ChangeTopic,
    Column,
    ColumnType,
    Contract,
    EventContract,
    MartContract,
    Reference,
    RowsContract,
    TableSource,
)
from incident_pipelines.core.contracts.quality import quality_queries, refuse_quality_queries
from incident_pipelines.core.documents import Document, Path, parse_document
from incident_pipelines.core.errors import InvalidIdentifier
from incident_pipelines.core.identifiers import identifier

_LOGICAL_TYPES: dict[str, ColumnType] = {
    "string": "text",
    "integer": "integer",
    "number": "numeric",
    "boolean": "boolean",
    "timestamp": "timestamp",
    "date": "date",
}
_NUMERIC = re.compile(r"(?:numeric|decimal)\((\d{1,3}),\s*(\d{1,2})\)")
_COMMON = {"dataset", "consumers", "recoverySources", "maxQuarantineShare", "protectedShare", "correlationId"}
_KNOWN = {
    "events": _COMMON | {"topic", "format", "eventId", "eventType", "eventTime", "schemaVersion"},
    "rows": _COMMON | {"source", "table", "topic", "format", "primaryKey", "createdAt", "updatedAt"},
    "mart": _COMMON | {"inputs", "primaryKey", "day", "reachDays", "anchorDataset", "anchorEventType", "closes"},
}


def parse_contract(name: str, text: str) -> Contract:
    """Parse one contract.

    Args:
        name: file name for messages.
        text: YAML of ODCS 3.

    Raises:
        InvalidDocument: not valid ODCS, or not a contract this system can keep; the message names file and line.
    """
    document = parse_document(name, text)
    problems: list[Any] = list(_validator().iter_errors(document.data))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    for problem in sorted(problems, key=lambda found: [str(part) for part in found.absolute_path]):
        raise document.error(tuple(problem.absolute_path), problem.message[:300])
    return _ContractReader(document, OpenDataContractStandard(**document.data)).read()


@cache
def _validator() -> Draft201909Validator:
    return Draft201909Validator(json.loads(OpenDataContractStandard.json_schema()))


class _ContractReader:
    def __init__(self, document: Document, odcs: OpenDataContractStandard) -> None:
        self._document = document
        self._odcs = odcs
        self._custom: dict[str, Any] = {}
        self._custom_paths: dict[str, Path] = {}
        for index, entry in enumerate(odcs.customProperties or []):
            if entry.property:
                self._custom[entry.property] = entry.value
                self._custom_paths[entry.property] = ("customProperties", index, "value")

    def read(self) -> Contract:
        kind = self._text("dataset")
        if kind not in _KNOWN:
            raise self._error("dataset", f"{kind!r} is no kind of dataset; one of {', '.join(_KNOWN)}")
        for name in self._custom:
            if name not in _KNOWN[kind]:
                raise self._error(name, f"{name!r} is not known for {kind}; one of {', '.join(sorted(_KNOWN[kind]))}")
        if not self._odcs.schema_ or len(self._odcs.schema_) != 1 or not self._odcs.schema_[0].properties:
            raise self._document.error(("schema",), "exactly one schema object with properties is expected")
        columns = tuple(
            self._column(spec, ("schema", 0, "properties", index))
            for index, spec in enumerate(self._odcs.schema_[0].properties)
        )
        names = [column.name for column in columns]
        for name in names:
            if names.count(name) > 1:
                raise self._document.error(("schema", 0, "properties"), f"column {name!r} is declared twice")
        if kind != "mart":
            refuse_quality_queries(self._document, self._quality)
        name = self._checked(self._odcs.id or "", ("id",))
        description = self._odcs.description
        common: dict[str, Any] = {
            "name": name,
            "version": self._odcs.version or "",
            "description": ((description.purpose if description else None) or "").strip(),
            "owner": self._owner(),
            "consumers": self._names("consumers"),
            "columns": columns,
            "max_quarantine_share": self._share("maxQuarantineShare", 0.01),
            "protected_share": self._share("protectedShare", 0.05),
            "freshness_minutes": self._service_level("freshness", {"m": 1, "h": 60, "d": 1440}),
            "correlation_id": self._column_name("correlationId", names, optional=True),
        }
        match kind:
            case "events":
                return self._events(common, names)
            case "rows":
                return self._rows(common, names)
            case _:
                return self._mart(common, names)

    @property
    def _quality(self) -> Sequence[DataQuality]:
        return (self._odcs.schema_ or [])[0].quality or []

    def _events(self, common: dict[str, Any], names: list[str]) -> EventContract:
        if self._custom.get("format", "json") != "json":
            raise self._error("format", "events are `json`; a Debezium topic carries rows: use `dataset: rows`")
        event_id = self._required_column("eventId", names)
        event_time = self._required_column("eventTime", names)
        column_types = {column.name: column for column in common["columns"]}
        if column_types[event_time].type != "timestamp" or not column_types[event_time].required:
            raise self._error("eventTime", f"{event_time!r} must be a required timestamp")
        if not column_types[event_id].required:
            raise self._error("eventId", f"{event_id!r} must be required")
        return EventContract(
            **common,
            primary_key=(event_id,),
            time_column=event_time,
            topic=self._text("topic"),
            event_id=event_id,
            event_type=self._required_column("eventType", names),
            event_time=event_time,
            schema_version=self._column_name("schemaVersion", names, optional=True),
            recovery_sources=self._names("recoverySources"),
            retention_days=self._service_level("retention", {"d": 1}),
        )

    def _rows(self, common: dict[str, Any], names: list[str]) -> RowsContract:
        origin: TableSource | ChangeTopic
        if self._custom.get("format") == "debezium":
            origin = ChangeTopic(self._text("topic"))
        else:
            schema, _, table = self._text("table").rpartition(".")
            path = self._custom_paths["table"]
            origin = TableSource(
                source=self._checked(self._text("source"), self._custom_paths.get("source", ())),
                schema=self._checked(schema or "public", path),
                table=self._checked(table, path),
                updated_at=self._required_column("updatedAt", names),
            )
        created_at = self._column_name("createdAt", names, optional=True)
        by_name = {column.name: column for column in common["columns"]}
        if created_at and (by_name[created_at].type != "timestamp" or not by_name[created_at].required):
            raise self._error("createdAt", f"{created_at!r} must be a required timestamp")
        return RowsContract(
            **common,
            primary_key=self._primary_key(names),
            time_column=created_at,
            origin=origin,
            recovery_sources=self._names("recoverySources"),
        )

    def _mart(self, common: dict[str, Any], names: list[str]) -> MartContract:
        day = self._required_column("day", names)
        reach = self._custom.get("reachDays", 0)
        if not isinstance(reach, int) or not 0 <= reach <= 366:
            raise self._error("reachDays", "a whole number of days from 0 to 366 is expected")
        anchor = None
        if "anchorDataset" in self._custom:
            anchor = Anchor(self._text("anchorDataset"), self._text("anchorEventType"))
        inputs = self._names("inputs")
        if not inputs:
            raise self._error("inputs", "at least one raw dataset is expected")
        if self._custom.get("closes") not in (None, "monthly"):
            raise self._error("closes", "monthly is expected, or nothing")
        return MartContract(
            **common,
            primary_key=self._primary_key(names),
            time_column=day,
            inputs=inputs,
            reach_days=reach,
            anchor=anchor,
            closes_monthly="closes" in self._custom,
            quality=quality_queries(self._document, self._quality),
        )

    def _column(self, spec: SchemaProperty, path: Path) -> Column:
        name = self._checked(spec.name or "", (*path, "name"))
        options = spec.logicalTypeOptions or {}
        if spec.logicalType not in _LOGICAL_TYPES:
            raise self._document.error(
                (*path, "logicalType"), f"{spec.logicalType!r} is not supported; one of {', '.join(_LOGICAL_TYPES)}"
            )
        column_type = _LOGICAL_TYPES[spec.logicalType]
        precision, scale = 12, 2
        if column_type == "text" and (options.get("format") == "uuid" or spec.physicalType == "uuid"):
            column_type = "uuid"
        if column_type == "numeric":
            matched = _NUMERIC.fullmatch(spec.physicalType or "")
            if not matched:
                raise self._document.error(
                    (*path, "physicalType"), "a number needs physicalType numeric(PRECISION,SCALE)"
                )
            precision, scale = int(matched[1]), int(matched[2])
            if not 0 <= scale <= precision <= 38 or precision == 0:
                raise self._document.error((*path, "physicalType"), "precision must be 1 to 38 and scale at most that")
        reference = None
        for index, relationship in enumerate(spec.relationships or []):
            target = relationship.to if isinstance(relationship.to, str) else ""
            dataset, dot, column = target.partition(".")
            if not dot:
                raise self._document.error((*path, "relationships", index), "`to: dataset.column` is expected")
            where = (*path, "relationships", index, "to")
            reference = Reference(self._checked(dataset, where), self._checked(column, where))
        return Column(
            name=name,
            type=column_type,
            description=(spec.description or "").strip(),
            required=bool(spec.required or spec.primaryKey),
            unique=bool(spec.unique),
            allowed=tuple(str(entry.value) for entry in spec.enum or []),
            minimum=self._bound(options, "minimum", path),
            maximum=self._bound(options, "maximum", path),
            max_length=options.get("maxLength"),
            precision=precision,
            scale=scale,
            reference=reference,
            pii=(spec.classification or "").lower() == "pii",
        )

    def _bound(self, options: Mapping[str, Any], name: str, path: Path) -> Decimal | None:
        if options.get(name) is None:
            return None
        try:
            return Decimal(str(options[name]))
        except InvalidOperation as error:
            raise self._document.error((*path, "logicalTypeOptions", name), "a number is expected") from error

    def _owner(self) -> str:
        team = self._odcs.team
        name = team[0].name if isinstance(team, list) and team else getattr(team, "name", None)
        if not name:
            raise self._document.error(("team",), "team.name, the owner, is missing")
        return str(name)

    def _share(self, name: str, default: float) -> float:
        share = self._custom.get(name, default)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise self._error(name, "a share from 0 to 1 is expected")
        return float(share)

    def _service_level(self, name: str, units: Mapping[str, int]) -> int | None:
        for index, level in enumerate(self._odcs.slaProperties or []):
            if level.property == name:
                if level.unit is None or level.unit not in units or not isinstance(level.value, int):
                    raise self._document.error(
                        ("slaProperties", index), f"{name} needs a whole value and a unit of {', '.join(units)}"
                    )
                return level.value * units[level.unit]
        return None

    def _primary_key(self, names: list[str]) -> tuple[str, ...]:
        key = self._names("primaryKey")
        if not key or any(column not in names for column in key):
            raise self._error("primaryKey", f"a list of declared columns is expected, not {list(key)}")
        return key

    def _required_column(self, name: str, names: list[str]) -> str:
        return cast(str, self._column_name(name, names, optional=False))

    def _column_name(self, name: str, names: list[str], *, optional: bool) -> str | None:
        if optional and name not in self._custom:
            return None
        value = self._text(name)
        if value not in names:
            raise self._error(name, f"{value!r} is not a declared column")
        return value

    def _names(self, name: str) -> tuple[str, ...]:
        value: Any = self._custom.get(name) or []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in cast(list[Any], value)):
            raise self._error(name, "a list of names is expected")
        return tuple(cast(list[str], value))

    def _text(self, name: str) -> str:
        value = self._custom.get(name)
        if not isinstance(value, str) or not value:
            raise self._error(name, f"customProperties needs {name!r}, a text")
        return value

    def _checked(self, name: str, path: Path) -> str:
        try:
            return identifier(name)
        except InvalidIdentifier as error:
            raise self._document.error(path, str(error)) from error

    def _error(self, name: str, message: str) -> Exception:
        return self._document.error(self._custom_paths.get(name, ("customProperties",)), message)
