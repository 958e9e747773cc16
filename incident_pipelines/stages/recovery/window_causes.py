"""What a window is made from, in short: if it is refused, it is not worth trying again until this has changed."""

import hashlib
from collections.abc import Sequence

from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.databases.publication import read_inputs
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.windows import TimeWindow


def window_causes(
    warehouse: Engine, catalog: Catalog, places: Sequence[tuple[str, TimeWindow]], *, when_refused: bool = False
) -> dict[str, str]:
    """Return version of the inputs, contract and SQL of windows, by dataset and start.

    Args:
        when_refused: of a window that was refused, the inputs that it was refused for, and not those of now.

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
            inputs = read_inputs(connection, dataset, window)
            version = inputs.version
            if when_refused and inputs.refused_version is not None:
                version = inputs.refused_version
            found[f"{dataset} {window.start.isoformat()}"] = f"{version} {digest}"
    return found
