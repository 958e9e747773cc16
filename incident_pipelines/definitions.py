"""Entry point of the Dagster code location. Data takes the stages in this order:

1. ``landing``: topics and source tables, and the log that all of it lands in. Not run by Dagster: the lander writes it;
   once a minute its figures are observed.
2. ``raw``: an hour of each dataset, made from the log alone: typed, de-duplicated, checked, published.
3. ``marts``: a day of each mart, made from raw alone by one SQL file.
4. ``reconciliation``: hours and everything of each declared pair of tables, and what has not cleared.
5. ``recovery``: what each source can still replay.
6. ``incidents``: sensors that make failed runs signals, signals incidents, and lead each to its end.

``refresh`` publishes every window of raw and marts that has become stale, each minute. ``resources`` is what runs
connect to; ``catalog`` is what all of it is made from. Loading this module reads the catalog's files and nothing else.
"""

from pathlib import Path

import dagster as dg

defs = dg.Definitions.merge(
    dg.load_from_defs_folder(path_within_project=Path(__file__).parent),
    dg.Definitions(executor=dg.in_process_executor),
)
