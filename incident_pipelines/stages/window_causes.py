"""What a window is made from, in short: if it is refused, it is not worth trying again until this has changed."""

import hashlib
from collections.abc import Sequence

from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.databases.publication import read_inputs
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.windows import TimeWindow


def window_causes(warehouse: Engine, catalog: Catalog, places: Sequence[tuple[str, TimeWindow]]) -> dict[str, str]:
    """Return version of the inputs, contract and SQL of windows, by dataset and start.

    Raises:
        SourceUnavailable: the warehouse does not answer.
    """
    found: dict[str, str] = {}
    with available("warehouse"), warehouse.connect() as connection:
        for dataset, window in places:
            mart = catalog.marts.get(dataset)
            contract = mart.contract if mart else catalog.landed[dataset]
            made_by = f"{contract!r}{(mart.sql, mart.quality) if mart else ''}"
            digest = hashlib.sha256(made_by.encode()).hexdigest()[:16]
            version = read_inputs(connection, dataset, window).version
            found[f"{dataset} {window.start.isoformat()}"] = f"{version} {digest}"
    return found
