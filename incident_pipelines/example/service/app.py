"""The app process: visitors come, sign-ups are accepted and taken to their end, events are sent."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

from incident_pipelines.adapters.logs import fields
from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.example.databases import statement
from incident_pipelines.example.events import Event
from incident_pipelines.example.history_rows import add_control_totals
from incident_pipelines.example.live_outbox import LANE, now_us
from incident_pipelines.example.outbox import OutboxRelay
from incident_pipelines.example.page_views import PageViewSender
from incident_pipelines.example.records import AuditLog, GroundTruth
from incident_pipelines.example.service import retries
from incident_pipelines.example.service.app_http import AppServer
from incident_pipelines.example.service.arrivals import Arrivals
from incident_pipelines.example.service.billing_http import BillingClient
from incident_pipelines.example.service.connections import Connections
from incident_pipelines.example.service.housekeeping import prune_outbox
from incident_pipelines.example.service.loops import Loops
from incident_pipelines.example.service.sign_ups import SignUps
from incident_pipelines.example.settings import SEED, Settings
from incident_pipelines.example.topics import RecordTimestamps
from incident_pipelines.example.visits import SignUp, World

LOGGER = logging.getLogger(__name__)
# A step waits for billing most of its time; at the highest rate that is allowed some 20 are under way.
WORKERS = 32
ARRIVALS_EVERY_SECONDS = 0.1
IDLE_SECONDS = 0.5
# Page views wait in memory for the broker; what comes on top while it is away is forgotten, as their contract says.
MAX_WAITING_PAGE_VIEWS = 50_000
PAGE_VIEW_BATCH = 5_000
KEEP_IDEMPOTENCY_KEYS_DAYS = 2
HOUSEKEEPING_SECONDS = 600.0


def recorder(settings: Settings) -> Callable[[Sequence[Event]], None]:
    """Return what a relay tells about acknowledged events: ground truth and audit log, on disk before it returns."""
    audit = AuditLog(settings.folder, durable=True)
    truth = GroundTruth(settings.folder, durable=True)

    def record(events: Sequence[Event]) -> None:
        truth.append(events)
        audit.append(events)

    return record


class App:
    """The threads of the app process.

    Args:
        settings: the app's database, broker, folder, rate and address.
        loops: where the threads are added.
        random: source of jitter.
    """

    def __init__(self, settings: Settings, loops: Loops, random: Random) -> None:
        self._settings = settings
        self._loops = loops
        self._random = random
        self._connections = Connections(settings.app_url, "example-app")
        self._sent = threading.Event()
        self._due = threading.Event()
        self._sign_ups = SignUps(self._connections, BillingClient(settings.folder), random, self._sent, self._due)
        self._relay = OutboxRelay(
            settings.app_url,
            LANE,
            settings.kafka,
            f"example-app-{LANE}",
            recorder(settings),
            settings.topic_prefix,
        )
        self._truth = GroundTruth(settings.folder, durable=True)
        self._page_view_sender = PageViewSender(
            settings.kafka, self._page_views_acknowledged, RecordTimestamps(settings.kafka), settings.topic_prefix
        )
        self._page_views: queue.Queue[Event] = queue.Queue(MAX_WAITING_PAGE_VIEWS)
        self._uncounted: list[Event] = []
        self._arrivals = Arrivals(World(SEED, settings.rate, "live"), now_us())
        self._server = AppServer(settings.app_service, self._sign_ups.complete) if settings.app_service else None
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="sign-up")
        self._busy: set[str] = set()
        self._busy_lock = threading.Lock()
        self._tidied: float | None = None
        loops.add("arrivals", self._let_in)
        loops.add("sign-ups", self._advance_due, self._due)
        loops.add("outbox", self._relay_outbox, self._sent)
        loops.add("page views", self._send_page_views)
        loops.add("housekeeping", self._tidy)
        if self._server is not None:
            threading.Thread(target=self._server.serve_forever, name="requests", daemon=True).start()

    def close(self) -> None:
        """Finish what the workers have begun and give up connections."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._pool.shutdown(cancel_futures=True)
        self._relay.close()
        self._page_view_sender.close()
        self._connections.close()

    def _let_in(self) -> float:
        for arrival in self._arrivals.due(now_us()):
            if arrival.page_view is not None:
                try:
                    self._page_views.put_nowait(arrival.page_view)
                except queue.Full:
                    LOGGER.warning("page view dropped: too many wait for Kafka")
            if arrival.sign_up is not None:
                self._pool.submit(self._submit, arrival.sign_up)
        return ARRIVALS_EVERY_SECONDS

    def _submit(self, sign_up: SignUp) -> None:
        """Be the client of a sign-up: send it with one key until it is accepted or the retries are spent."""
        failed = 0
        while not self._loops.stopping.is_set():
            try:
                if self._sign_ups.accept(sign_up, f"sign-up:{sign_up.registration_id}"):
                    LOGGER.info("accepted", extra=fields(correlation_id=sign_up.registration_id))
                return
            except SourceUnavailable as error:
                failed += 1
                wait_seconds = retries.delay_seconds(failed, self._random)
                if wait_seconds is None:
                    LOGGER.error(
                        "sign-up lost before it was accepted",
                        extra=fields(correlation_id=sign_up.registration_id, cause=str(error)),
                    )
                    return
                self._loops.stopping.wait(wait_seconds)
            except Exception:
                LOGGER.exception("sign-up", extra=fields(correlation_id=sign_up.registration_id))
                return

    def _advance_due(self) -> float:
        with self._busy_lock:
            busy = list(self._busy)
        free = WORKERS - len(busy)
        if free > 0:
            for registration_id in self._sign_ups.due(busy, free):
                with self._busy_lock:
                    self._busy.add(registration_id)
                self._pool.submit(self._advance, registration_id)
        return ARRIVALS_EVERY_SECONDS

    def _advance(self, registration_id: str) -> None:
        try:
            self._sign_ups.advance(registration_id)
        except SourceUnavailable as error:
            # Nothing is lost: the step is still due.
            LOGGER.warning("step put off", extra=fields(correlation_id=registration_id, cause=str(error)))
            self._loops.stopping.wait(1.0)
        except Exception:
            LOGGER.exception("step failed", extra=fields(correlation_id=registration_id))
            self._loops.stopping.wait(1.0)
        finally:
            with self._busy_lock:
                self._busy.discard(registration_id)
            self._due.set()

    def _relay_outbox(self) -> float:
        return 0.0 if self._relay.relay_batch() else IDLE_SECONDS

    def _send_page_views(self) -> float:
        batch: list[Event] = []
        while len(batch) < PAGE_VIEW_BATCH and not self._page_views.empty():
            batch.append(self._page_views.get_nowait())
        self._page_view_sender.send(batch)
        if self._uncounted:
            with self._connections.transaction() as connection:
                add_control_totals(connection, self._uncounted)
            self._uncounted.clear()
        return IDLE_SECONDS

    def _page_views_acknowledged(self, events: Sequence[Event]) -> None:
        self._truth.append(events)
        self._uncounted.extend(events)

    def _tidy(self) -> float:
        if self._tidied is None or time.monotonic() - self._tidied >= HOUSEKEEPING_SECONDS:
            with self._connections.transaction() as connection:
                connection.execute(statement("prune_idempotency_keys"), (KEEP_IDEMPOTENCY_KEYS_DAYS,))
            prune_outbox(self._connections)
            self._tidied = time.monotonic()
        return IDLE_SECONDS
