"""Which SQL the processes of a stack read: that which ships, through a link in its home.

A change of the files that ship counts at once; whoever wants to try another SQL on this stack alone points the link
elsewhere, and the next start of the stack points it back.
"""

import os
import tempfile
from pathlib import Path

from incident_pipelines.adapters.catalog_files import sql_folder
from incident_pipelines.stack.locations import Home


def deploy_shipped_sql(home: Home) -> None:
    """Point the stack at the SQL that ships."""
    deploy_sql(home, sql_folder({}))


def deploy_sql(home: Home, folder: Path) -> None:
    """Point the stack at a folder of SQL, all of it at once.

    Args:
        folder: of the same shape as the one that ships; it has to stay.
    """
    with tempfile.TemporaryDirectory(dir=home.path, prefix=".sql.") as beside:
        link = Path(beside) / "sql"
        link.symlink_to(folder.resolve(), target_is_directory=True)
        os.replace(link, home.sql)
