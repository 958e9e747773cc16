"""Contract → what Dagster shows of an asset."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import dagster as dg

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import (
    ChangeTopic,
    Column,
    Contract,
    EventContract,
    Landed,
    MartContract,
    RowsContract,
    TableSource,
)
from incident_pipelines.core.publication import window_rules
from incident_pipelines.defs.partitions import partitions_of, reach_mapping

SHORTEST_FRESHNESS = timedelta(minutes=1)
"""Dagster refuses a freshness window under this."""


def landing_key(dataset: str) -> dg.AssetKey:
    """Return the key of a dataset's log."""
    return dg.AssetKey(["landing", dataset])


def published_key(contract: Contract) -> dg.AssetKey:
    """Return the key of a raw dataset or a mart."""
    return dg.AssetKey([stage_of(contract), contract.name])


def stage_of(contract: Contract) -> str:
    """Return ``raw`` or ``marts``."""
    return "marts" if isinstance(contract, MartContract) else "raw"


def source_spec(table: TableSource) -> dg.AssetSpec:
    """Return the table of somebody else's database that a dataset is read from."""
    return dg.AssetSpec(
        dg.AssetKey([table.source, table.table]),
        group_name="landing",
        description=f"Table {table.schema}.{table.table} of the {table.source} database.",
        kinds={"table"},
        metadata={"dagster/table_name": f"{table.schema}.{table.table}", "updated_at": table.updated_at},
    )


def landing_spec(contract: Landed) -> dg.AssetSpec:
    """Return the log of a dataset: append only, written by the lander or by extracts, never by a run of its own."""
    deps: list[dg.AssetKey] = []
    metadata: dict[str, Any] = {"dagster/table_name": f"landing.{contract.name}"}
    origin = contract.origin if isinstance(contract, RowsContract) else ChangeTopic(contract.topic)
    if isinstance(origin, TableSource):
        description = f"Every image of each row of {origin.schema}.{origin.table} in {origin.source}, as it was read."
        deps.append(source_spec(origin).key)
        kinds = {"postgres"}
    else:
        description = f"Everything that was on topic {origin.topic}, as it came; dead letters included."
        metadata["topic"] = origin.topic
        kinds = {"kafka", "postgres"}
    if isinstance(contract, EventContract):
        metadata["recovery_sources"] = ", ".join(contract.recovery_sources)
        if contract.retention_days is not None:
            metadata["retention_floor_days"] = contract.retention_days
    return dg.AssetSpec(
        landing_key(contract.name),
        deps=deps,
        group_name="landing",
        description=f"{description} {contract.description}".strip(),
        owners=[owner(contract)],
        kinds=kinds,
        tags=_tags(contract),
        metadata=metadata | {"contract_version": contract.version},
    )


def published_spec(catalog: Catalog, contract: Contract) -> dg.AssetSpec:
    """Return a raw dataset or a mart. It is skippable: a run reports each window itself, when it is done."""
    stage = stage_of(contract)
    metadata: dict[str, Any] = {
        "dagster/table_name": f"{stage}.{contract.name}",
        "dagster/column_schema": column_schema(contract),
        "contract_version": contract.version,
        "primary_key": ", ".join(contract.primary_key),
        "max_quarantine_share": contract.max_quarantine_share,
    }
    if contract.time_column:
        metadata["time_column"] = contract.time_column
    if contract.consumers:
        metadata["consumers"] = ", ".join(contract.consumers)
    if isinstance(contract, MartContract):
        metadata["reach_days"] = contract.reach_days
        metadata["sql"] = dg.MetadataValue.md(f"```sql\n{catalog.marts[contract.name].sql.strip()}\n```")
    return dg.AssetSpec(
        published_key(contract),
        deps=list(_upstream(catalog, contract)),
        skippable=True,
        group_name=stage,
        description=contract.description,
        owners=[owner(contract)],
        kinds={"postgres", "sql"} if isinstance(contract, MartContract) else {"postgres"},
        tags=_tags(contract),
        metadata=metadata,
        code_version=contract.version,
        partitions_def=partitions_of(catalog, contract),
        freshness_policy=_freshness(contract),
    )


def check_specs(contract: Contract) -> list[dg.AssetCheckSpec]:
    """Return one check for each rule. None blocks: a window that fails one is not published in the first place."""
    return [
        dg.AssetCheckSpec(
            rule.name,
            asset=published_key(contract),
            description=rule.description,
            metadata={"max_share": rule.max_share, "severity": rule.severity, "columns": ", ".join(rule.columns)},
        )
        for rule in window_rules(contract)
    ]


def column_schema(contract: Contract) -> dg.TableSchema:
    """Return the columns with their constraints; personal data carries the tag ``pii``."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                type=column.sql_type,
                description=column.description or None,
                constraints=dg.TableColumnConstraints(
                    nullable=not (column.required or column.name in contract.primary_key),
                    unique=column.unique or contract.primary_key == (column.name,),
                    other=list(_constraints(column)),
                ),
                tags={"pii": ""} if column.pii else None,
            )
            for column in contract.columns
        ]
    )


def owner(contract: Contract) -> str:
    """Return the contract's owner as Dagster writes a team."""
    return f"team:{contract.owner}"


def _upstream(catalog: Catalog, contract: Contract) -> Iterable[dg.AssetDep]:
    if isinstance(contract, MartContract):
        for name in contract.inputs:
            mapped = catalog.landed[name].time_column is not None
            yield dg.AssetDep(
                published_key(catalog.landed[name]),
                partition_mapping=reach_mapping(catalog, contract) if mapped else None,
            )
        return
    yield dg.AssetDep(landing_key(contract.name))
    # A reference is looked up when a window is checked: within one run what is referred to comes first. Only a dataset
    # that is one window can be waited for: in a range run the others yield no output that a later step could wait for.
    referred = {column.reference.dataset for column in contract.columns if column.reference}
    for name in sorted(referred - {contract.name}):
        if catalog.landed[name].time_column is None:
            yield dg.AssetDep(published_key(catalog.landed[name]))


def _constraints(column: Column) -> Iterable[str]:
    if column.allowed:
        yield f"one of {', '.join(column.allowed)}"
    if column.minimum is not None:
        yield f"at least {column.minimum}"
    if column.maximum is not None:
        yield f"at most {column.maximum}"
    if column.max_length is not None:
        yield f"at most {column.max_length} characters"
    if column.reference:
        yield f"exists in {column.reference.dataset}.{column.reference.column}"


def _tags(contract: Contract) -> Mapping[str, str]:
    tags = {f"consumer/{_tag(name)}": "" for name in contract.consumers}
    return tags | ({"pii": ""} if any(column.pii for column in contract.columns) else {})


def _tag(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_-." else "-" for letter in name)[:63]


def _freshness(contract: Contract) -> dg.FreshnessPolicy | None:
    # Dagster looks at the time of the last materialization. A table that is one window is only built when a row of it
    # has changed, which says nothing of how fresh it is.
    if contract.freshness_minutes is None or contract.time_column is None:
        return None
    return dg.FreshnessPolicy.time_window(max(timedelta(minutes=contract.freshness_minutes), SHORTEST_FRESHNESS))
