"""Topics' and tables' logs, and the tables that rows are read from: outside of Dagster, shown in its graph."""

import dagster as dg

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.contracts.model import RowsContract, TableSource
from incident_pipelines.defs.catalog import declared_catalog
from incident_pipelines.defs.specs import landing_spec, source_spec


def landing_assets(catalog: Catalog) -> list[dg.AssetSpec]:
    """Return the log of each landed dataset and each source table."""
    tables = {
        source_spec(contract.origin).key: source_spec(contract.origin)
        for contract in catalog.landed.values()
        if isinstance(contract, RowsContract) and isinstance(contract.origin, TableSource)
    }
    return [*tables.values(), *(landing_spec(contract) for contract in catalog.landed.values())]


@dg.definitions
def landing() -> dg.Definitions:
    """Return the landing assets of the declared catalog."""
    return dg.Definitions(assets=landing_assets(declared_catalog()))
