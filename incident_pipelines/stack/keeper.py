"""Brings supervisord back when it was killed: supervisord runs this program, and this program watches supervisord.

So whichever process of a stack dies, another one is there to start it again.
"""

import logging
import os
import sys
from logging.handlers import RotatingFileHandler

import psutil

from incident_pipelines.stack.errors import StackError
from incident_pipelines.stack.locations import Home
from incident_pipelines.stack.stack import Stack
from incident_pipelines.stack.startup import revive

_log = logging.getLogger("incident_pipelines.stack.keeper")


def main() -> None:
    """Wait for the parent supervisord to end; when that was no orderly stop, bring the stack back and end."""
    home = Home.from_environment()
    # The pipe to supervisord breaks when it dies; this program has to outlive it.
    handler = RotatingFileHandler(home.logs / "revivals.log", maxBytes=1_000_000, backupCount=1)
    logging.basicConfig(handlers=[handler], level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with open(os.devnull, "r+b") as null:
        os.dup2(null.fileno(), sys.stdout.fileno())
        os.dup2(null.fileno(), sys.stderr.fileno())
    supervisor = psutil.Process(os.getppid())
    _log.info("watching supervisord, pid %d", supervisor.pid)
    supervisor.wait()

    stack = Stack(home)
    try:
        with stack.exclusive(wait_seconds=0):
            if not stack.state.running or stack.supervisor.answers():
                return
            _log.warning("supervisord (pid %d) was killed", supervisor.pid)
            revive(stack, _log.info)
            _log.info("the stack is back")
    except StackError as error:
        # Another command holds the home, or somebody took a port: `up` sees it and says so.
        _log.error("%s (%s)", error, error.hint)
        sys.exit(1)


if __name__ == "__main__":
    main()
