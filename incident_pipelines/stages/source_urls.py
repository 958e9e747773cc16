"""Where the sources of a catalog are."""

from collections.abc import Mapping

from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.core.reconciliation.declaration import WAREHOUSE

_WAREHOUSE_VARIABLE = "WAREHOUSE_URL"


def source_url(catalog: Catalog, environment: Mapping[str, str], source: str) -> str:
    """Return the SQLAlchemy URL of a source that the catalog names, or of the warehouse.

    Args:
        environment: variables with the addresses.

    Raises:
        SourceUnavailable: the variable is not set.
    """
    variable = catalog.sources.get(source) or (_WAREHOUSE_VARIABLE if source == WAREHOUSE else "")
    url = environment.get(variable)
    if not url:
        raise SourceUnavailable(f"source {source} cannot be read: {variable or 'its variable'} is not set")
    return url
