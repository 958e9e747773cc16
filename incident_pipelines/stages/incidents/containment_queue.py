"""Which incidents containment has something to do for."""

from sqlalchemy import Engine

from incident_pipelines.adapters.databases.postgres import available
from incident_pipelines.adapters.databases.statements import query
from incident_pipelines.adapters.stores.holds import read_holds
from incident_pipelines.core.incidents.containment import LANDING_SIGNALS, RETENTION_SIGNALS
from incident_pipelines.core.incidents.containment_actions import KINDS, RestoreRetention, StartLanders
from incident_pipelines.stages.incidents.containment_course import ATTEMPTS

_REPEATED = (KINDS[RestoreRetention], KINDS[StartLanders])


def incidents_to_contain(control: Engine) -> list[str]:
    """Return the incidents that `contain_incident` has something to do for, the first opened first.

    Raises:
        SourceUnavailable: the control database does not answer.
    """
    values = {
        "signals": [*RETENTION_SIGNALS, *LANDING_SIGNALS],
        "again": list(_REPEATED),
        "attempts": ATTEMPTS,
    }
    with available("control database"), control.begin() as connection:
        return list(connection.execute(query("incidents_to_contain"), values).scalars())


def incidents_to_release(control: Engine, warehouse: Engine) -> list[str]:
    """Return the incidents that are over and still contained or hold windows, as one that a person has closed by hand.

    Raises:
        SourceUnavailable: a database does not answer.
    """
    with available("warehouse"), warehouse.connect() as connection:
        holders = {one.incident_id for one in read_holds(connection)}
    values = {"kinds": list(KINDS.values()), "holders": sorted(holders)}
    with available("control database"), control.begin() as connection:
        return list(connection.execute(query("incidents_to_release"), values).scalars())
