"""``python -m incident_pipelines.example.service app|billing``."""

import logging
import sys
import warnings
from random import SystemRandom

from incident_pipelines.adapters.logs import fields, log_json
from incident_pipelines.example.service.app import App
from incident_pipelines.example.service.billing_process import BillingProcess
from incident_pipelines.example.service.loops import Loops
from incident_pipelines.example.settings import InvalidSetting, process_environment, settings_from

LOGGER = logging.getLogger("incident_pipelines.example")


def main(arguments: list[str]) -> int:
    """Run one of the two processes and return its exit code.

    Args:
        arguments: ``app`` or ``billing``.
    """
    log_json()
    # A relay that is fenced closes its producer with a transaction open: its successor has ended that one.
    warnings.filterwarnings("ignore", message="Producer abort_transaction failed during close")
    if arguments not in (["app"], ["billing"]):
        sys.stderr.write("usage: python -m incident_pipelines.example.service app|billing\n")
        return 2
    is_app = arguments == ["app"]
    try:
        settings = settings_from(process_environment(), app=is_app, billing=not is_app)
    except InvalidSetting as error:
        LOGGER.error(str(error))
        return 2
    loops = Loops()
    service = App(settings, loops, SystemRandom()) if is_app else BillingProcess(settings, loops, SystemRandom())
    LOGGER.info("started", extra=fields(role=arguments[0], rate=settings.rate))
    try:
        return loops.run()
    finally:
        service.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
