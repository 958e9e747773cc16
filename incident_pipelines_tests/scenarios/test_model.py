"""Whatever happens to a platform in whatever order, its promises hold after each step; over the real parts."""

import json
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import psycopg
import pytest
from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from psycopg import sql

from incident_pipelines.adapters.catalog_files import load_catalog
from incident_pipelines.adapters.databases.postgres import driver_url, postgres_engine
from incident_pipelines.adapters.kafka.consumer import OffsetBounds
from incident_pipelines.adapters.stores.incidents_findings import latest_finding
from incident_pipelines.adapters.stores.incidents_work import latest_plan
from incident_pipelines.adapters.stores.landing_log import Fenced
from incident_pipelines.core.catalog import Catalog
from incident_pipelines.core.errors import WindowOwned
from incident_pipelines.core.incidents.incident import Actor
from incident_pipelines.core.recovery.guardrails import guardrails
from incident_pipelines.core.recovery.loss import LossStatement
from incident_pipelines.core.recovery.plan import plan_of
from incident_pipelines.core.windows import HOUR, TimeWindow
from incident_pipelines.stack.postgres import grant_connect
from incident_pipelines.stages.incidents import by_hand
from incident_pipelines.stages.incidents.contain import contain_incident, release_containment
from incident_pipelines.stages.incidents.containment_queue import incidents_to_contain, incidents_to_release
from incident_pipelines.stages.incidents.pages import listed_incidents
from incident_pipelines.stages.incidents.respond import take_signals
from incident_pipelines.stages.landing.land import _SessionOver  # pyright: ignore[reportPrivateUsage]
from incident_pipelines.stages.monitoring.monitor import Monitor
from incident_pipelines.stages.monitoring.window_watch import WindowWatch
from incident_pipelines.stages.publication.refresh import PublishedWindow, Skipped, refresh, stale_windows
from incident_pipelines.stages.reconciliation.reconcile import reconcile
from incident_pipelines.stages.recovery.replay import Replayer
from incident_pipelines_tests.conftest import Databases
from incident_pipelines_tests.landing_tools import RememberingProducer, query, wait_for
from incident_pipelines_tests.stages.recovery_shop import (
    ORDERS,
    RUN,
    TOLD_SQL,
    TURNOVER_SQL,
    WITH_SENT_AND_TOLD,
    Shop,
    encoded,
    open_shop,
)
from incident_pipelines_tests.stepped_lander import Died, SteppedLander, dies_at

pytestmark = pytest.mark.stack

SEQUENCES = int(os.environ.get("MODEL_SEQUENCES", "5"))
STEPS = int(os.environ.get("MODEL_STEPS", "10"))
PARTITIONS = 2
HOURS = 6
OVER_SECONDS = 60.0
LANDING_POINTS = ("land.before_fence", "land.after_fence", "land.after_copy", "land.before_commit", "land.after_commit")
RECOVERY_POINTS = (
    "replay.before_append",
    "replay.before_commit",
    "replay.after_commit",
    "recover.held",
    "recover.replayed",
    "recover.published",
    "recover.verified",
)
GARBAGE = (b"", b"hello", b'{"event_id": 1', b"\xff\xfe", b"[1]", b'{"a": "\\u0000"}')
SETTLED = ("recovered", "resolved", "reviewed")
SEEDS = st.integers(0, 2**32 - 1)


@dataclass
class Ground:
    """What all sequences share: databases to copy, one catalog, one topic and one producer."""

    databases: Databases
    shop: Shop
    catalog: Catalog
    topic: str
    producer: RememberingProducer
    admin: AdminClient

    def fresh(self) -> Databases:
        """Return copies of the databases, as they were when they were prepared."""
        suffix = secrets.token_hex(4)
        names = {purpose: f"{purpose}_{suffix}" for purpose in ("app", "warehouse", "control")}
        with self.databases.stack.postgres.connect() as connection:
            for purpose, name in names.items():
                connection.execute(
                    sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                        sql.Identifier(name), sql.Identifier(self.databases.names[purpose])
                    )
                )
                grant_connect(connection, name, purpose)
        return Databases(self.databases.stack, {**self.databases.names, **names})

    def drop(self, databases: Databases) -> None:
        """Drop what `fresh` made."""
        with databases.stack.postgres.connect() as connection:
            for purpose in ("app", "warehouse", "control"):
                name = sql.Identifier(databases.names[purpose])
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    def cut(self, number: int, offset: int) -> int:
        """Have the broker delete the records before an offset; return where the partition begins now."""
        place = TopicPartition(self.topic, number, offset)
        (deleted,) = self.admin.delete_records([place]).values()
        return deleted.result(10).low_watermark


@pytest.fixture
def ground(own_databases: Databases, tmp_path: Path, new_topic: Callable[..., str], rng: random.Random) -> Ground:
    topic = new_topic("orders", partitions=PARTITIONS)
    shop = open_shop(own_databases, tmp_path, topic, rng, events=1, more=WITH_SENT_AND_TOLD)
    # Conflicting copies are quarantined one by one here, whatever share of their few neighbours they are.
    contract = ORDERS.replace("TOPIC", topic).replace(
        "customProperties:\n", "customProperties:\n- {property: maxQuarantineShare, value: 1.0}\n"
    )
    (tmp_path / "contracts" / "orders.yaml").write_text(contract, encoding="utf-8")
    query(own_databases.url("app", "app_service"), "TRUNCATE outbox, totals")
    shop.close()
    servers = own_databases.stack.bootstrap_servers
    producer = RememberingProducer(servers, topic, f"tx-{topic}")
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    return Ground(own_databases, shop, load_catalog(shop.variables), topic, producer, admin)


@pytest.mark.timeout(120 + 30 * SEQUENCES)
def test_promises_hold_after_every_step(ground: Ground) -> None:
    class Bound(Model):
        def __init__(self) -> None:
            super().__init__(ground)

    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=SEQUENCES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            # Each sequence takes seconds: what failed is told step by step, and not made shorter by a hundred others.
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


class Model(RuleBasedStateMachine):
    """One platform from its first event on, and what is known of it from outside."""

    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self.ground = ground
        self.databases = ground.fresh()
        variables = {**ground.shop.variables, **self.databases.environment("publisher")}
        self.variables = {name: value for name, value in variables.items() if "SUPERVISOR" not in name}
        self.shop = replace(
            ground.shop,
            databases=self.databases,
            catalog=ground.catalog,
            variables=self.variables,
            control=postgres_engine(self.variables["CONTROL_DATABASE_URL"], "model"),
            warehouse=postgres_engine(self.variables["WAREHOUSE_URL"], "model"),
            sent={},
        )
        monitors = self.databases.environment("monitor")
        self.monitor, self.watch = Monitor(monitors), WindowWatch(ground.catalog, monitors)
        self.people = postgres_engine(self.databases.url("control"), "ann")
        self.lander: SteppedLander | None = None
        self.zombies: list[SteppedLander] = []
        self.members = self.events = 0
        self.start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - (HOURS + 2) * HOUR
        self.begins = {number: ground.cut(number, OFFSET_END) for number in range(PARTITIONS)}
        ground.producer.committed.clear()
        ground.producer.aborted.clear()
        self.damaged: set[datetime] = set()
        self.seen: dict[tuple[Any, ...], tuple[int, int]] = {}
        self.cursor = psycopg.connect(driver_url(self.databases.url("warehouse")), autocommit=True)

    def teardown(self) -> None:
        """Bring everything to its end: then nothing that was acknowledged is missing anywhere."""
        try:
            self.bring_to_an_end()
            self.promises()
            self.nothing_is_missing()
        finally:
            for lander in [*self.zombies, *([self.lander] if self.lander else [])]:
                lander.close()
            self.cursor.close()
            self.monitor.close()
            self.watch.close()
            self.shop.close()
            self.people.dispose()
            self.ground.drop(self.databases)

    # What happens

    @initialize(seed=SEEDS)
    def begin(self, seed: int) -> None:
        self.produce(seed, 8, False)
        self.poll(None)

    @rule(seed=SEEDS, events=st.integers(1, 8), abort=st.booleans())
    def produce(self, seed: int, events: int, abort: bool) -> None:
        """The app acknowledges orders and relays them; what a relay sent before it died is aborted, and sent again."""
        rng = random.Random(seed)
        made = [self._event(rng) for _ in range(events)]
        self._acknowledge(made)
        values: list[bytes | None] = [encoded(event) for event in made]
        if abort:
            self.ground.producer.send(values, abort=True, partition=rng.randrange(PARTITIONS))
        self.ground.producer.send(values, partition=rng.randrange(PARTITIONS))

    @rule(seed=SEEDS, conflicting=st.booleans())
    def produce_again(self, seed: int, conflicting: bool) -> None:
        """A producer sends an event once more, or under the same id something else."""
        rng = random.Random(seed)
        # A broken event that is sent again as a good one is published, and stays a dead letter as well.
        names = sorted(name for name, event in self.shop.sent.items() if not conflicting or event["amount"] >= 0)
        if names:
            event = dict(self.shop.sent[rng.choice(names)])
            if conflicting:
                event["amount"] = rng.choice([event["amount"], 77.0])
            self.ground.producer.send([encoded(event)] * 2, partition=rng.randrange(PARTITIONS))

    @rule(seed=SEEDS)
    def poison(self, seed: int) -> None:
        """Bytes that are no event, and an event of the app that breaks its contract, among good ones."""
        rng = random.Random(seed)
        bad, good = self._event(rng, amount=-1), self._event(rng)
        self._acknowledge([bad, good])
        values = [rng.choice(GARBAGE), encoded(bad), encoded(good), None]
        self.ground.producer.send(values, partition=rng.randrange(PARTITIONS))

    @rule(records=st.none() | st.integers(1, 5))
    def poll(self, records: int | None) -> None:
        """The lander lands what is there, or some of it."""
        with self._landing() as lander:
            lander.fetch(records)
            lander.write()

    @rule(point=st.sampled_from(LANDING_POINTS), passes=st.integers(1, PARTITIONS))
    def crash(self, point: str, passes: int) -> None:
        """The lander dies at one of its commit points."""
        with self._landing() as lander:
            lander.fetch()
            with dies_at(point, passes), suppress(Died):
                lander.write()
        self._leave()

    @rule()
    def fall_asleep(self) -> None:
        """The lander stops with records in its hands, and another one takes over."""
        with self._landing() as lander:
            lander.fetch()
        if self.lander is not None:
            self.zombies.append(self.lander)
            self.lander = None
        self.poll(None)

    @rule()
    def wake_up(self) -> None:
        """A lander whose partitions were taken over goes on: not a row of it is written."""
        if not self.zombies:
            return
        zombie = self.zombies.pop()
        before = self._count("landing.orders")
        with suppress(Fenced):
            zombie.write()
        zombie.close()
        assert self._count("landing.orders") == before

    @rule(share=st.sampled_from([0.3, 1.0]), seed=SEEDS)
    def expire(self, share: float, seed: int) -> None:
        """Records age out, landed or not."""
        number = random.Random(seed).randrange(PARTITIONS)
        bounds = self._bounds(number)
        offset = bounds.start + int((bounds.end - bounds.start) * share)
        if offset > bounds.start:
            self.begins[number] = self.ground.cut(number, offset)

    @rule(seed=SEEDS, events=st.integers(1, 8))
    def lose(self, seed: int, events: int) -> None:
        """Orders are relayed, and age out before anybody has landed them."""
        self.produce(seed, events, False)
        for number in range(PARTITIONS):
            if (end := self._bounds(number).end) > self.begins[number]:
                self.begins[number] = self.ground.cut(number, end)

    @rule()
    def tick(self) -> None:
        """Windows are refreshed, facts become signals, signals incidents, and incidents are contained."""
        for outcome in refresh(self.shop.warehouse, self.shop.catalog, owner="model"):
            assert isinstance(outcome, PublishedWindow | Skipped), outcome
        self.monitor.raise_signals()
        now = datetime.now(UTC)
        given = (self.shop.control, self.shop.warehouse, self.shop.catalog, self.variables)
        take_signals(self.shop.control, self.shop.catalog, now)
        for incident_id in incidents_to_contain(self.shop.control):
            contain_incident(*given, incident_id, RUN, now)
        for incident_id in incidents_to_release(self.shop.control, self.shop.warehouse):
            release_containment(*given, incident_id, RUN, now)

    @rule(seed=SEEDS, count=st.integers(1, 3))
    def damage(self, seed: int, count: int) -> None:
        """Somebody deletes published rows; the watch reports exactly the windows they were in."""
        self.tick()
        rng = random.Random(seed)
        untouchable = self._undecided("orders") | self._held()
        rows = [
            (event_id, at)
            for event_id, at in self.cursor.execute(
                "SELECT event_id, occurred_at FROM raw.orders ORDER BY 1"
            ).fetchall()
            if TimeWindow.hour_of(at).start not in untouchable
        ]
        if not rows:
            return
        chosen = rng.sample(rows, min(count, len(rows)))
        with self.cursor.transaction():
            self.cursor.execute("SET LOCAL incident_pipelines.confirmed = 'raw.orders'")
            self.cursor.execute("DELETE FROM raw.orders WHERE event_id = ANY(%s)", ([one for one, _ in chosen],))
        self.damaged |= {TimeWindow.hour_of(at).start for _, at in chosen}
        self.watch.compare()
        assert self._reported() == self.damaged
        self.tick()

    @rule()
    def reconcile(self) -> None:
        """The producer's originals are compared with what became of them: what is missing is reported, to the key."""
        gone = self.shop.sent.keys() - self._told()
        given = (self.shop.catalog, self.shop.control, "sent_and_told", None)
        reconcile(*given, as_of=datetime.now(UTC), owner="model", environment=self.variables)
        rows = query(
            self.databases.url("control"),
            "SELECT kind, key ->> 'event_id' FROM reconciliation.differences WHERE resolved_at IS NULL",
        )
        assert {kind for kind, _ in rows} <= {"missing"}
        assert {event_id for _, event_id in rows} == gone

    @rule(point=st.none() | st.sampled_from(RECOVERY_POINTS))
    def recover(self, point: str | None) -> None:
        """Incidents are brought to their end, or somebody dies while doing it."""
        if point is None:
            self.bring_to_an_end()
            return
        wait_for(self._all_is_landed, "everything to be landed that is left in the topic")
        self.tick()
        with dies_at(point), suppress(Died, WindowOwned):
            for incident_id in self._open():
                self.shop.recover(incident_id, clock=lambda: datetime.now(UTC))
        # A point that is not on the way kills nobody: what is right again is not damaged any more.
        raw, expected = self._raw_and_log()
        self.damaged &= {TimeWindow.hour_of(row[-1]).start for _, row in raw.items() ^ expected.items()}

    def bring_to_an_end(self) -> None:
        """Land what is there and recover, until no incident is open; a replay that is done again appends nothing."""
        # Some of it waits by itself: what could not be contained is tried again after a pause.
        deadline = time.monotonic() + OVER_SECONDS
        while not self._is_over() and time.monotonic() < deadline:
            continue
        left = self._open()
        assert left == [], "\n".join(
            f"{incident_id} {entry.number} {entry.kind} {entry.text}"
            for incident_id in left
            for entry in self.shop.page(incident_id).entries[-20:]
        )
        self.damaged.clear()
        self.watch.compare()
        assert self._reported() == set()
        assert self._count("publication.holds") == 0

    def _is_over(self) -> bool:
        wait_for(self._all_is_landed, "everything to be landed that is left in the topic")
        self.watch.compare()
        self.tick()
        wait_for(self._all_facts_are_told, "every fact to become a signal")
        self.tick()
        for incident_id in self._open():
            with suppress(WindowOwned):  # it goes on when the other is done
                state = self.shop.recover(incident_id, clock=lambda: datetime.now(UTC))
                if state in SETTLED:
                    self._replay_again(incident_id)
                elif state == "awaiting_approval":  # some of these hours lie in a month that is over
                    by_hand.approve(self.people, incident_id, Actor("person", "ann"), datetime.now(UTC))
        return not self._open() and not stale_windows(self.shop.warehouse, self.shop.catalog)

    # What holds, whatever happened

    @invariant()
    def promises(self) -> None:
        self._every_record_is_in_one_place()
        self._offsets_only_rise()
        self._raw_is_made_from_the_log()
        self._marts_are_made_from_raw()
        self._guardrails_hold()
        self._timelines_are_whole()

    def nothing_is_missing(self) -> None:
        """At the end each acknowledged event is published once, or a dead letter, or quarantined: none is missing."""
        assert self._told() == self.shop.sent.keys()
        raw = {str(event_id) for (event_id,) in self.cursor.execute("SELECT event_id FROM raw.orders")}
        dead = {row[0] for row in self.cursor.execute("SELECT event_id FROM landing.dead_letters") if row[0]}
        quarantined = {row[0] for row in self.cursor.execute("SELECT key FROM landing.quarantine")}
        assert not raw & quarantined
        assert not raw & dead
        assert dead == {name for name, event in self.shop.sent.items() if event["amount"] < 0}
        for incident in listed_incidents(self.shop.control):
            with self.shop.control.connect() as connection:
                loss = latest_finding(connection, incident.incident_id, "loss", LossStatement)
            assert loss is None or (loss.unrecoverable, loss.unknown_at_most) == (0, 0), loss

    def _every_record_is_in_one_place(self) -> None:
        """Each committed record is landed, not landed yet, in a gap that was written down, or just aged out."""
        landed: dict[tuple[int, int], bytes | None] = {
            (number, offset): value
            for number, offset, value in self.cursor.execute(
                "SELECT partition, position, value FROM landing.orders JOIN landing.origins USING (origin_id) "
                "WHERE kind = 'topic'"
            )
        }
        gaps = self.cursor.execute("SELECT partition, from_offset, to_offset FROM landing.gaps").fetchall()
        following = dict(self.cursor.execute("SELECT partition, next FROM landing.offsets").fetchall())
        committed = self.ground.producer.committed
        assert landed.keys() <= committed.keys()
        assert not landed.keys() & self.ground.producer.aborted
        for place, value in committed.items():
            number, offset = place
            in_gap = any(gap[0] == number and gap[1] <= offset < gap[2] for gap in gaps)
            ahead = offset >= following.get(number, 0)
            assert (place in landed) + in_gap + ahead == 1, (place, place in landed, in_gap, ahead)
            assert place not in landed or landed[place] == value

    def _offsets_only_rise(self) -> None:
        rows = self.cursor.execute(
            "SELECT o.topic, g.topic_id, o.partition, o.epoch, o.next FROM landing.offsets o "
            "JOIN landing.origins g USING (origin_id)"
        )
        for *place, epoch, following in rows.fetchall():
            before = self.seen.get(tuple(place), (0, 0))
            assert epoch >= before[0]
            assert following >= before[1]
            self.seen[tuple(place)] = (epoch, following)

    def _raw_is_made_from_the_log(self) -> None:
        """Every window that is not stale holds each event of the log once; of an id with two contents, none."""
        unknown = self._undecided("orders") | self.damaged
        raw, expected = (
            {name: row for name, row in rows.items() if TimeWindow.hour_of(row[-1]).start not in unknown}
            for rows in self._raw_and_log()
        )
        assert raw == expected

    def _raw_and_log(self) -> tuple[dict[str, tuple[Any, ...]], dict[str, tuple[Any, ...]]]:
        """Rows of raw, and those that the log says should be there, by event id; their time is the last field."""
        copies: dict[str, set[tuple[Any, ...]]] = {}
        for (value,) in self.cursor.execute("SELECT value FROM landing.orders WHERE reason IS NULL"):
            event = json.loads(value)
            at = datetime.fromisoformat(event["occurred_at"])
            row = (event["event_type"], event["order_id"], event["currency"], Decimal(str(event["amount"])), at)
            copies.setdefault(event["event_id"], set()).add(row)
        expected = {event_id: next(iter(rows)) for event_id, rows in copies.items() if len(rows) == 1}
        statement = "SELECT event_id, event_type, order_id, currency, amount, occurred_at FROM raw.orders"
        raw = {str(event_id): (*row[:-1], row[-1].astimezone(UTC)) for event_id, *row in self.cursor.execute(statement)}
        return raw, expected

    def _marts_are_made_from_raw(self) -> None:
        doubtful = {at.date() for at in self._undecided("orders") | self._undecided("turnover") | self.damaged}
        statement = TURNOVER_SQL.replace(":window_start", "%s").replace(":window_end", "%s")
        span = (datetime(2000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC))
        rebuilt = {row[:2]: row[2:] for row in self.cursor.execute(statement, span) if row[0] not in doubtful}
        mart = {
            row[:2]: row[2:]
            for row in self.cursor.execute("SELECT day, currency, amount, orders FROM marts.turnover")
            if row[0] not in doubtful
        }
        assert mart == rebuilt

    def _guardrails_hold(self) -> None:
        """No plan takes more than its budget, and no incident appends more than its plans have taken."""
        url = self.databases.url("control")
        assert (
            query(url, "SELECT plan_id FROM incidents.budgets WHERE taken > events_at_most OR replayed > taken") == []
        )
        taken = dict(
            query(
                url,
                "SELECT incident_id, sum(taken) FROM incidents.budgets JOIN incidents.plans USING (plan_id) GROUP BY 1",
            )
        )
        appended = self.cursor.execute(
            "SELECT note, count(*) FROM landing.orders JOIN landing.origins USING (origin_id) "
            "WHERE kind = 'recovery' GROUP BY 1"
        ).fetchall()
        assert all(events <= taken.get(incident_id, 0) for incident_id, events in appended)

    def _timelines_are_whole(self) -> None:
        """No entry was changed or is missing, and each effect was announced before it was done."""
        began = {row[0] for row in self.cursor.execute("SELECT note FROM landing.origins WHERE kind = 'recovery'")}
        for incident in listed_incidents(self.shop.control):
            page = self.shop.page(incident.incident_id)
            assert page.tampered == ()
            announced: set[str] = set()
            for entry in page.entries:
                if entry.kind == "action_intended":
                    announced.add(entry.detail["key"])
                elif entry.kind in ("action_done", "action_failed", "action_undone"):
                    assert entry.detail["key"] in announced
            if incident.incident_id in began:
                assert "recovering" in [entry.state_to for entry in page.entries]

    # What the steps are made of

    def _event(self, rng: random.Random, **changes: Any) -> dict[str, Any]:
        self.events += 1
        return {
            "event_id": str(uuid5(UUID(int=8), str(self.events))),
            "event_type": rng.choice(["ordered", "paid"]),
            "order_id": f"o-{rng.randrange(20)}",
            "currency": rng.choice(["EUR", "USD"]),
            "amount": rng.randrange(100, 10_000) / 100,
            "occurred_at": (self.start + timedelta(seconds=rng.randrange(HOURS * 3600))).isoformat(),
            **changes,
        }

    def _acknowledge(self, events: list[dict[str, Any]]) -> None:
        """Write events into the outbox and the totals, as the app does in the transaction of the change."""
        with psycopg.connect(driver_url(self.databases.url("app", "app_service"))) as connection:
            for event in events:
                connection.execute(
                    "INSERT INTO outbox VALUES (%s, %s, %s, %s)",
                    (event["event_id"], event["occurred_at"], event["order_id"], encoded(event).decode()),
                )
                connection.execute(
                    "INSERT INTO totals VALUES (date_trunc('minute', CAST(%s AS timestamptz)), 1) "
                    "ON CONFLICT (minute) DO UPDATE SET events = totals.events + 1",
                    (event["occurred_at"],),
                )
                self.shop.sent[event["event_id"]] = event

    @contextmanager
    def _landing(self) -> Iterator[SteppedLander]:
        """Give the lander that runs, or a new one; if the broker no longer has its place, it joins again."""
        if self.lander is None:
            self.members += 1
            environment = {**self.variables, **self.databases.environment("lander")}
            self.lander = SteppedLander(self.ground.catalog, environment, self.ground.topic, str(self.members))
        try:
            yield self.lander
        except _SessionOver:
            self._leave()

    def _leave(self) -> None:
        if self.lander is not None:
            self.lander.close()
            self.lander = None

    def _open(self) -> list[str]:
        return [one.incident_id for one in listed_incidents(self.shop.control) if one.state not in SETTLED]

    def _all_is_landed(self) -> bool:
        """A lander whose place has aged out joins again, and lands from there on."""
        self.poll(None)
        following = dict(self.cursor.execute("SELECT partition, next FROM landing.offsets").fetchall())
        return all(following.get(number, 0) >= self._bounds(number).end for number in range(PARTITIONS))

    def _all_facts_are_told(self) -> bool:
        """Facts wait while any transaction of the server runs that began before them, and be it an autovacuum."""
        self.monitor.raise_signals()
        ((cursor,),) = query(self.databases.url("control"), "SELECT max(xid) FROM monitoring.cursors")
        row = self.cursor.execute("SELECT max(xid::text::numeric) FROM landing.facts").fetchone()
        return row is None or row[0] is None or row[0] < cursor

    def _replay_again(self, incident_id: str) -> None:
        with self.shop.control.connect() as connection:
            stored = latest_plan(connection, incident_id)
        if stored is None:
            return
        given = (self.shop.control, self.shop.warehouse, self.shop.catalog, self.variables)
        again = Replayer(*given, incident_id, stored.plan_id, guardrails(0, None))
        assert [span.appended for span in again.replay(plan_of(stored.body).replays) if span.appended] == []

    def _bounds(self, number: int) -> OffsetBounds:
        end = max(
            (o + 1 for n, o in [*self.ground.producer.committed, *self.ground.producer.aborted] if n == number),
            default=0,
        )
        return OffsetBounds(self.begins[number], max(end, self.begins[number]))

    def _count(self, table: str) -> int:
        row = self.cursor.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        assert row is not None
        return row[0]

    def _undecided(self, dataset: str) -> set[datetime]:
        return {
            window.start for name, window in stale_windows(self.shop.warehouse, self.shop.catalog) if name == dataset
        }

    def _held(self) -> set[datetime]:
        spans = self.cursor.execute("SELECT window_start, window_end FROM publication.holds WHERE dataset = 'orders'")
        return {
            one.start
            for start, end in spans
            for one in TimeWindow(start.astimezone(UTC), end.astimezone(UTC)).split(HOUR)
        }

    def _told(self) -> set[str]:
        """Ids of the events that are published, dead letters or quarantined."""
        return {event_id for (event_id, _) in self.cursor.execute(TOLD_SQL)}

    def _reported(self) -> set[datetime]:
        rows = query(
            self.databases.url("control"),
            "SELECT window_start FROM monitoring.signals WHERE kind = 'window_changed_outside' AND dataset = 'orders' "
            "AND cleared_at IS NULL",
        )
        return {at.astimezone(UTC) for (at,) in rows}
