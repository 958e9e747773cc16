"""One asset for each dataset that is landed, by hour of event time."""

import dagster as dg

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.defs.catalog import declared_catalog
from incident_pipelines.defs.publishing import publishing_asset


def raw_assets(catalog: Catalog) -> list[dg.AssetsDefinition]:
    """Return the raw datasets, references before what refers to them."""
    return [publishing_asset(catalog, contract) for contract in catalog.landed.values()]


@dg.definitions
def raw() -> dg.Definitions:
    """Return the raw assets of the declared catalog."""
    return dg.Definitions(assets=raw_assets(declared_catalog()))
