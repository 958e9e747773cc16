"""One asset for each mart, by day."""

import dagster as dg

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.defs.catalog import declared_catalog
from incident_pipelines.defs.publishing import publishing_asset


def mart_assets(catalog: Catalog) -> list[dg.AssetsDefinition]:
    """Return the marts."""
    return [publishing_asset(catalog, mart.contract) for mart in catalog.marts.values()]


@dg.definitions
def marts() -> dg.Definitions:
    """Return the marts of the declared catalog."""
    return dg.Definitions(assets=mart_assets(declared_catalog()))
