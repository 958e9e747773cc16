"""Audit log and ground truth on disk."""

import json
import stat
from datetime import UTC, datetime
from pathlib import Path

from incident_pipelines.example.events import PAGE_VIEWS
from incident_pipelines.example.history import History
from incident_pipelines.example.progress import minute_of
from incident_pipelines.example.records import Acknowledged, AuditLog, GroundTruth
from incident_pipelines.example.visits import World

DAY = "2026-11-02"
START = minute_of(datetime(2026, 11, 2, 16, 0, tzinfo=UTC))
EVENTS = History(World(1, 1.0), START, START).advance(START + 5).events


def test_ground_truth_gives_back_what_was_acknowledged(tmp_path: Path) -> None:
    truth = GroundTruth(tmp_path, durable=True)
    truth.append(EVENTS)
    read = list(truth.read(DAY))
    assert read == [
        Acknowledged(event.event_id, event.key, event.time_us, event.amount_cents, event.topic, event.event_type)
        for event in EVENTS
    ]
    assert truth.days() == [DAY]
    assert any(one.amount_cents > 0 for one in read)


def test_ground_truth_is_for_its_owner_only(tmp_path: Path) -> None:
    GroundTruth(tmp_path, durable=False).append(EVENTS[:1])
    assert stat.S_IMODE((tmp_path / "ground_truth").stat().st_mode) == 0o700


def test_a_record_that_a_crash_cut_off_is_dropped(tmp_path: Path) -> None:
    truth = GroundTruth(tmp_path, durable=False)
    truth.append(EVENTS[:3])
    path = tmp_path / "ground_truth" / f"{DAY}.bin"
    path.write_bytes(path.read_bytes()[:-7])
    assert [one.event_id for one in truth.read(DAY)] == [event.event_id for event in EVENTS[:2]]
    truth.append(EVENTS[3:4])
    assert [one.event_id for one in truth.read(DAY)] == [EVENTS[index].event_id for index in (0, 1, 3)]


def test_audit_log_holds_the_bytes_that_were_sent(tmp_path: Path) -> None:
    AuditLog(tmp_path, durable=True).append(EVENTS)
    emitted = [event for event in EVENTS if event.topic != PAGE_VIEWS]
    lines = b"".join(path.read_bytes() for path in (tmp_path / "audit").iterdir()).splitlines()
    assert {json.loads(line)["event_id"] for line in lines} == {event.event_id for event in emitted}
    by_id = {event.event_id: event for event in emitted}
    for line in lines:
        event = by_id[json.loads(line)["event_id"]]
        assert line.endswith(b'"value":' + event.value + b"}")
        assert json.loads(line)["topic"] == event.topic
    assert sorted(path.name for path in (tmp_path / "audit").iterdir()) == [
        f"payments-{DAY}.jsonl",
        f"registrations-{DAY}.jsonl",
    ]


def test_a_line_that_a_crash_cut_off_spoils_no_other(tmp_path: Path) -> None:
    emitted = [event for event in EVENTS if event.topic == "registrations"][:3]
    log = AuditLog(tmp_path, durable=False)
    log.append(emitted[:2])
    path = tmp_path / "audit" / f"registrations-{DAY}.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    log.append(emitted[2:])
    lines = path.read_bytes().splitlines()
    assert json.loads(lines[0])["event_id"] == emitted[0].event_id
    assert json.loads(lines[2])["event_id"] == emitted[2].event_id
