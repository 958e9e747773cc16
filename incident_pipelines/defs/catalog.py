"""The catalog that the definitions are made from."""

from functools import cache

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.core.catalog import Catalog


@cache
def declared_catalog() -> Catalog:
    """Return the catalog of this process's environment, read once: files only, nothing is connected to."""
    return load_catalog()
