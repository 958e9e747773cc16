"""The billing process: serves payments, captures what is due, sends webhooks."""

import threading
import time
from random import Random

from incident_pipelines.example.live_outbox import LANE
from incident_pipelines.example.outbox import OutboxRelay
from incident_pipelines.example.service.app import recorder
from incident_pipelines.example.service.billing import Billing
from incident_pipelines.example.service.billing_http import BillingServer
from incident_pipelines.example.service.connections import Connections
from incident_pipelines.example.service.housekeeping import prune_outbox
from incident_pipelines.example.service.loops import Loops
from incident_pipelines.example.settings import Settings

CAPTURES_EVERY_SECONDS = 0.25
IDLE_SECONDS = 0.5
HOUSEKEEPING_SECONDS = 600.0


class BillingProcess:
    """The threads of the billing process.

    Args:
        settings: billing's database, broker and folder.
        loops: where the threads are added.
        random: how long the card processor takes.
    """

    def __init__(self, settings: Settings, loops: Loops, random: Random) -> None:
        sent = threading.Event()
        self._connections = Connections(settings.billing_url, "example-billing")
        self._billing = Billing(self._connections, random, sent, loops.stopping)
        self._relay = OutboxRelay(
            settings.billing_url,
            LANE,
            settings.kafka,
            f"example-billing-{LANE}",
            recorder(settings),
            settings.topic_prefix,
        )
        self._tidied: float | None = None
        self._server = BillingServer(self._billing, settings.folder)
        self._serving = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)
        self._serving.start()
        loops.add("captures", self._capture)
        loops.add("outbox", self._relay_outbox, sent)
        loops.add("housekeeping", self._tidy)

    def close(self) -> None:
        """Stop serving and give up connections."""
        self._server.shutdown()
        self._server.server_close()
        self._relay.close()
        self._connections.close()

    def _capture(self) -> float:
        return 0.0 if self._billing.capture_due() else CAPTURES_EVERY_SECONDS

    def _relay_outbox(self) -> float:
        return 0.0 if self._relay.relay_batch() else IDLE_SECONDS

    def _tidy(self) -> float:
        if self._tidied is None or time.monotonic() - self._tidied >= HOUSEKEEPING_SECONDS:
            prune_outbox(self._connections)
            self._tidied = time.monotonic()
        return IDLE_SECONDS
