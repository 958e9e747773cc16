"""Published tables record who changes how much, and refuse a statement that touches too much of one."""

from sqlalchemy import Connection, text

from incident_pipelines.core.contracts.model import Contract, MartContract
from incident_pipelines.core.identifiers import quoted
from incident_pipelines.core.windows import TimeWindow

FLOOR_ROWS = 20
"""A statement may touch this many rows whatever their share is."""

_TRIGGERS = {
    "insert": "AFTER INSERT ON {table} REFERENCING NEW TABLE AS touched_rows",
    "update": "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS touched_rows",
    "delete": "AFTER DELETE ON {table} REFERENCING OLD TABLE AS touched_rows",
    "truncate": "BEFORE TRUNCATE ON {table}",
}


def published_table(contract: Contract) -> tuple[str, str]:
    """Return schema and name of the table that a dataset is published in."""
    return "marts" if isinstance(contract, MartContract) else "raw", contract.name


def protection_ddl(contract: Contract) -> list[str]:
    """Return the statements for the triggers of a published table."""
    table = quoted(*published_table(contract))
    # A share is a number from the contract, checked when that was parsed.
    arguments = f"{contract.protected_share:f}, {FLOOR_ROWS}"
    return [
        f"CREATE OR REPLACE TRIGGER protect_{what} {when.format(table=table)} FOR EACH STATEMENT "
        f"EXECUTE FUNCTION protection.record_change({arguments})"
        for what, when in _TRIGGERS.items()
    ]


def confirm_publish(connection: Connection, contract: Contract, window: TimeWindow) -> None:
    """Let the transaction touch any share of the dataset's table, and say in its records what it publishes."""
    connection.execute(
        text(
            "SELECT set_config('incident_pipelines.confirmed', :table, true), "
            "set_config('incident_pipelines.publishing', :publishing, true)"
        ),
        {
            "table": ".".join(published_table(contract)),
            "publishing": f"{contract.name} {window.start.isoformat()}",
        },
    )
