"""The live service on a real PostgreSQL and Kafka: what it accepts it finishes and sends, once, whatever breaks."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

import msgspec
import psycopg
import pytest

from incident_pipelines.core.errors import SourceUnavailable
from incident_pipelines.example import identities
from incident_pipelines.example.cards import card_from, card_of
from incident_pipelines.example.events import Event, registration_event
from incident_pipelines.example.live_outbox import LANE, add_to_outbox, now_us
from incident_pipelines.example.outbox import LaneTaken, OutboxRelay
from incident_pipelines.example.service import retries
from incident_pipelines.example.service.arrivals import Arrivals
from incident_pipelines.example.service.billing import Billing, PaymentRefused
from incident_pipelines.example.service.billing_http import BillingClient, BillingServer
from incident_pipelines.example.service.connections import Connections
from incident_pipelines.example.service.housekeeping import prune_outbox
from incident_pipelines.example.service.messages import PaymentState, request_from
from incident_pipelines.example.service.sign_ups import SignUps
from incident_pipelines.example.visits import MINUTE_US, SignUp, World, draw_visits
from incident_pipelines_tests.example.conftest import Example

pytestmark = pytest.mark.stack

Draw = Callable[..., SignUp]


@pytest.fixture
def draw(rng: Random) -> Draw:
    """A function that gives a sign-up that nobody has seen yet, ending as asked for."""
    drawn = (
        visit.sign_up
        for minute in iter(lambda: rng.randrange(29_000_000, 30_000_000), None)
        for visit in draw_visits(World(rng.randrange(2**32), 1.0), minute, late=False)
        if visit.sign_up is not None
    )

    def next_one(reason: str | None = None) -> SignUp:
        sign_up = next(one for one in drawn if one.failure_reason is None)
        return sign_up if reason is None else replace(sign_up, failure_reason=reason)

    return next_one


class Service:
    """Both halves of the service in this process, billing behind its real HTTP interface."""

    def __init__(self, example: Example) -> None:
        self.stopping = threading.Event()
        self.app = Connections(example.settings.app_url, "test app")
        self.billing_connections = Connections(example.settings.billing_url, "test billing")
        sent, due = threading.Event(), threading.Event()
        self.billing = Billing(self.billing_connections, Random(1), sent, self.stopping)
        self.server = BillingServer(self.billing, example.settings.folder)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.client = BillingClient(example.settings.folder)
        self.sign_ups = SignUps(self.app, self.client, Random(1), sent, due)

    def finish(self, example: Example, registration_id: str, timeout_seconds: float = 60.0) -> None:
        """Do all steps of a sign-up, each as soon as it may be done."""
        deadline = time.monotonic() + timeout_seconds
        with example.app() as app, example.billing() as billing:
            flow = "SELECT 1 FROM sign_up_flows WHERE registration_id = %s"
            while app.execute(flow, (registration_id,)).fetchone():
                assert time.monotonic() < deadline
                billing.execute("UPDATE payments SET capture_due_at = now() WHERE capture_due_at IS NOT NULL")
                self.billing.capture_due()
                self.sign_ups.advance(registration_id)

    def close(self) -> None:
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()
        self.app.close()
        self.billing_connections.close()


@pytest.fixture
def service(example: Example) -> Iterator[Service]:
    """The service over the example's databases."""
    service = Service(example)
    yield service
    service.close()


def _relay(example: Example, acknowledged: Callable[[Sequence[Event]], None] = lambda _: None) -> OutboxRelay:
    settings = example.settings
    prefix = settings.topic_prefix
    return OutboxRelay(settings.app_url, LANE, settings.kafka, f"{prefix}relay", acknowledged, prefix)


def _types(connection: psycopg.Connection, registration_id: str) -> list[str]:
    rows = connection.execute(
        "SELECT event_type FROM outbox WHERE correlation_id = %s ORDER BY created_at", (registration_id,)
    ).fetchall()
    return [row[0] for row in rows]


def _registration(example: Example, registration_id: str) -> tuple[str, str | None]:
    with example.app() as app:
        row = app.execute(
            "SELECT status, failure_reason FROM registrations WHERE registration_id = %s", (registration_id,)
        ).fetchone()
    assert row is not None
    return row[0], row[1]


def test_a_sign_up_goes_through_all_steps(example: Example, service: Service, draw: Draw) -> None:
    sign_up = draw()
    assert service.sign_ups.accept(sign_up, "key")
    service.finish(example, sign_up.registration_id)
    assert _registration(example, sign_up.registration_id) == ("activated", None)
    with example.app() as app, example.billing() as billing:
        assert _types(app, sign_up.registration_id) == [
            "registration_submitted",
            "registration_created",
            "account_activated",
        ]
        assert _types(billing, sign_up.registration_id) == [
            "payment_initiated",
            "payment_authorized",
            "payment_captured",
            "invoice_issued",
        ]
        activated = app.execute("SELECT activated_at FROM registrations").fetchone()
        captured = billing.execute("SELECT captured_at, external_transaction_id FROM payments").fetchone()
        assert activated
        assert captured
        assert captured[0] < activated[0]
        assert captured[1] == identities.external_transaction_id(sign_up.registration_id)
        events = app.execute("SELECT sum(events)::int FROM control_totals").fetchone()
        assert events == (3,)


@pytest.mark.parametrize(
    ("reason", "payment"),
    [("card_declined", "failed"), ("processor_error", "failed"), ("internal_error", None)],
)
def test_a_sign_up_fails_for_its_reason(
    example: Example, service: Service, draw: Draw, reason: str, payment: str | None
) -> None:
    sign_up = draw(reason)
    service.sign_ups.accept(sign_up, "key")
    service.finish(example, sign_up.registration_id)
    assert _registration(example, sign_up.registration_id) == ("failed", reason)
    with example.billing() as billing:
        row = billing.execute("SELECT status FROM payments").fetchone()
        assert (row and row[0]) == payment


def test_a_sign_up_gives_up_on_billing_after_eight_attempts(example: Example, service: Service, draw: Draw) -> None:
    sign_up = draw("billing_unavailable")
    service.sign_ups.accept(sign_up, "key")
    for attempt in range(1, retries.MAX_ATTEMPTS):
        service.sign_ups.advance(sign_up.registration_id)
        with example.app() as app:
            assert app.execute("SELECT attempts FROM sign_up_flows").fetchone() == (attempt,)
    service.sign_ups.advance(sign_up.registration_id)
    assert _registration(example, sign_up.registration_id) == ("failed", "billing_unavailable")
    with example.app() as app:
        assert app.execute("SELECT count(*) FROM sign_up_flows").fetchone() == (0,)


def test_retries_wait_longer_each_time() -> None:
    delays = [retries.delay_seconds(failed, Random(3)) for failed in range(1, 9)]
    assert delays[:3] == [0.1, 0.4, 1.6]
    assert delays[7] is None
    known = [delay for delay in delays if delay is not None]
    assert len(known) == 7
    assert all(earlier < later <= 120 for earlier, later in pairwise(known[:6]))


def test_the_same_key_is_accepted_once(example: Example, service: Service, draw: Draw) -> None:
    sign_up = draw()
    assert service.sign_ups.accept(sign_up, "key")
    assert not service.sign_ups.accept(sign_up, "key")
    with example.app() as app:
        assert len(_types(app, sign_up.registration_id)) == 2


def test_paying_twice_at_the_same_time_takes_the_money_once(example: Example, service: Service, draw: Draw) -> None:
    request = request_from(draw(), "approved:0.100")
    answers: list[PaymentState] = []

    def pay() -> None:
        answers.append(service.billing.pay(request))

    threads = [threading.Thread(target=pay) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [answer.status for answer in answers] == ["captured"] * 4
    with example.billing() as billing:
        assert _types(billing, request.registration_id) == [
            "payment_initiated",
            "payment_authorized",
            "payment_captured",
        ]
        assert billing.execute("SELECT sum(events)::int FROM control_totals").fetchone() == (3,)


def test_a_key_cannot_be_used_for_another_payment(service: Service, draw: Draw) -> None:
    request = request_from(draw(), "approved:0.000")
    service.client.pay(request)
    with pytest.raises(PaymentRefused, match="other terms"):
        service.client.pay(msgspec.structs.replace(request, amount="1.23"))


def test_an_invoice_is_issued_once_and_for_captured_payments_only(
    example: Example, service: Service, draw: Draw
) -> None:
    request = request_from(draw(), "approved:3600.000")
    assert service.client.pay(request).status == "authorized"
    with pytest.raises(PaymentRefused, match="not captured"):
        service.client.invoice(request.registration_id)
    service.billing.capture(request.registration_id)
    service.client.invoice(request.registration_id)
    service.client.invoice(request.registration_id)
    with example.billing() as billing:
        assert _types(billing, request.registration_id).count("invoice_issued") == 1


def test_a_capture_that_comes_late_is_made_when_it_is_due(example: Example, service: Service, draw: Draw) -> None:
    request = request_from(draw(), "approved:3600.000")
    service.client.pay(request)
    assert service.billing.capture_due() == 0
    with example.billing() as billing:
        billing.execute("UPDATE payments SET capture_due_at = now()")
    assert service.billing.capture_due() == 1
    assert service.client.pay(request).status == "captured"


def test_a_client_whose_time_is_up_gets_the_same_payment_later(example: Example, service: Service, draw: Draw) -> None:
    request = request_from(draw(), "approved:0.000")
    hasty = BillingClient(example.settings.folder, timeout_seconds=0.05)
    with pytest.raises(SourceUnavailable, match="timed out"):
        hasty.pay(request)
    state = service.client.pay(request)
    assert state.status == "captured"
    with example.billing() as billing:
        assert billing.execute("SELECT count(*) FROM payments").fetchone() == (1,)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"registration_id": 1}', b"\xff"])
def test_billing_refuses_what_is_no_request(service: Service, body: bytes) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", service.server.server_port, timeout=5)
    connection.request("POST", "/payments", body)
    assert connection.getresponse().status == 400


def test_cards_survive_their_token(draw: Draw) -> None:
    for reason in (None, "card_declined", "billing_unavailable"):
        card = card_of(draw(reason))
        again = card_from(card.token)
        assert (again.outcome, round(again.capture_seconds, 3)) == (card.outcome, round(card.capture_seconds, 3))
    with pytest.raises(ValueError, match="no test card"):
        card_from("4111111111111111")


def _add(example: Example, draw: Draw, count: int) -> list[str]:
    events = [registration_event("registration_created", now_us(), draw()) for _ in range(count)]
    with example.app() as app, app.transaction():
        add_to_outbox(app, events)
    return [event.event_id for event in events]


def test_a_relay_sends_in_order_and_marks(example: Example, draw: Draw) -> None:
    event_ids = _add(example, draw, 20)
    acknowledged: list[Event] = []
    relay = _relay(example, acknowledged.extend)
    assert relay.drain() == 20
    assert relay.relay_batch() == 0
    relay.close()
    assert [event.event_id for event in acknowledged] == event_ids
    assert sorted(example.event_ids("registrations")) == sorted(event_ids)
    with example.app() as app:
        assert app.execute("SELECT count(*) FROM outbox").fetchone() == (20,)


def test_a_relay_that_dies_between_commit_and_mark_sends_the_same_ids_again(example: Example, draw: Draw) -> None:
    class Killed(BaseException):
        pass

    def die(_: Sequence[Event]) -> None:
        raise Killed

    event_ids = _add(example, draw, 5)
    dying = _relay(example, die)
    with pytest.raises(Killed):
        dying.relay_batch()
    dying.close()
    later = _add(example, draw, 5)
    successor = _relay(example)
    assert successor.drain() == 10
    successor.close()
    sent = example.event_ids("registrations")
    assert sorted(sent) == sorted(2 * event_ids + later)


def test_a_lane_has_one_relay(example: Example, draw: Draw) -> None:
    event_ids = _add(example, draw, 3)
    first, second = _relay(example), _relay(example)
    assert first.relay_batch() == 3
    with pytest.raises(LaneTaken):
        second.relay_batch()
    first.close()
    assert second.relay_batch() == 0
    second.close()
    assert sorted(example.event_ids("registrations")) == sorted(event_ids)


def test_a_relay_that_lost_its_lane_is_fenced(example: Example, draw: Draw) -> None:
    """The lock goes with the connection; a successor's producer must end what its predecessor still does."""
    _add(example, draw, 1)
    zombie = _relay(example)
    assert zombie.relay_batch() == 1
    with example.app() as app:
        app.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = %s",
            (f"outbox relay {LANE}",),
        )
    successor = _relay(example)
    event_ids = _add(example, draw, 1)
    assert successor.relay_batch() == 1
    event = registration_event("registration_created", now_us(), draw())
    with pytest.raises(Exception, match=r"(?i)fenced|epoch"):
        zombie._send([event])
    zombie.close()
    successor.close()
    assert event.event_id not in example.event_ids("registrations")
    assert event_ids[0] in example.event_ids("registrations")


def test_an_event_whose_transaction_commits_late_is_not_skipped(example: Example, draw: Draw) -> None:
    late = registration_event("registration_created", now_us(), draw())
    relay = _relay(example)
    with example.app() as slow, slow.transaction():
        add_to_outbox(slow, [late])
        early = _add(example, lambda: replace(draw(), region="us" if late.region == "eu" else "eu"), 1)
        assert relay.relay_batch() == 1
    assert relay.relay_batch() == 1
    relay.close()
    assert sorted(example.event_ids("registrations")) == sorted([late.event_id, *early])


def test_the_outbox_forgets_only_what_is_old_and_published(example: Example, service: Service, draw: Draw) -> None:
    old_published, old_waiting, new = (_add(example, draw, 1)[0] for _ in range(3))
    with example.app() as app:
        app.execute("UPDATE outbox SET written_at = now() - interval '31 days' WHERE event_id <> %s", (new,))
        app.execute("DELETE FROM outbox_unpublished WHERE event_id = %s", (old_published,))
        assert prune_outbox(service.app) == 1
        left = {str(row[0]) for row in app.execute("SELECT event_id FROM outbox")}
    assert left == {old_waiting, new}


def test_arrivals_are_those_of_the_generator_from_the_start_on() -> None:
    world, minute = World(1, 5.0, "live"), 29_700_000
    start_us = minute * MINUTE_US + 30_000_000
    end_us = start_us + 2 * MINUTE_US
    arrivals = Arrivals(world, start_us)
    early = list(arrivals.due(start_us + 10_000_000))
    late = list(arrivals.due(end_us))
    due = [one.due_us for one in early + late]
    assert due == sorted(due)
    assert start_us <= due[0]
    assert due[-1] <= end_us
    expected = [
        up.registration_id
        for start in range(minute - 10, minute + 3)
        for usual in (False, True)
        for up in (visit.sign_up for visit in draw_visits(world, start, late=usual))
        if up is not None and start_us <= up.submitted_us <= end_us
    ]
    assert sorted(one.sign_up.registration_id for one in early + late if one.sign_up) == sorted(expected)


def _start(example: Example, role: str) -> "subprocess.Popen[bytes]":
    log = example.settings.home / f"{role}.log"
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "incident_pipelines.example.service", role],
            env={**os.environ, **example.environment, "EXAMPLE_RATE": "4"},
            stderr=output,
        )


def _wait_for(what: Callable[[], bool], timeout_seconds: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_sigkill_at_any_point_loses_nothing(example: Example, rng: Random) -> None:
    """Both processes are killed again and again; then all that was accepted comes to its end, and is in Kafka."""
    example.settings.home.mkdir(parents=True, exist_ok=True)

    def activated() -> int:
        with example.app() as app:
            row = app.execute("SELECT count(*) FROM registrations WHERE status = 'activated'").fetchone()
        return row[0] if row else 0

    running: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(3):
            running = [_start(example, role) for role in ("billing", "app")]
            before = activated()
            _wait_for(lambda before=before: activated() > before + rng.randrange(1, 10))
            rng.shuffle(running)
            for process in running:
                process.kill()
                process.wait(10)
        running = [_start(example, role) for role in ("billing", "app")]
        with example.app() as app:
            accepted = {str(row[0]) for row in app.execute("SELECT registration_id FROM registrations")}
            # Captures that are due in hours need not be waited for.
            running_captures = "SELECT registration_id FROM payments WHERE capture_due_at > now() + interval '20 s'"

            def all_ended() -> bool:
                with example.billing() as billing:
                    later = [row[0] for row in billing.execute(running_captures)]
                row = app.execute(
                    "SELECT count(*) FROM sign_up_flows WHERE registration_id = ANY(%s)"
                    " AND registration_id <> ALL(%s) AND next_attempt_at < now() + interval '60 s'",
                    (list(accepted), later),
                ).fetchone()
                return row == (0,)

            _wait_for(all_ended, 150.0)
        for process in running:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(20) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
            process.wait(10)
    for topic, url in (("registrations", example.settings.app_url), ("payments", example.settings.billing_url)):
        prefix = example.settings.topic_prefix
        relay = OutboxRelay(url, LANE, example.settings.kafka, f"{prefix}rest", lambda _: None, prefix)
        relay.drain()
        relay.close()
        sent = example.event_ids(topic)
        with example.app() if topic == "registrations" else example.billing() as database:
            written = {str(row[0]) for row in database.execute("SELECT event_id FROM outbox")}
        assert set(sent) == written
