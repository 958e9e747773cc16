"""What a stack remembers."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from incident_pipelines.stack.errors import StackError
from incident_pipelines.stack.locations import Home, write_atomically
from incident_pipelines.stack.state import START_VARIABLE, StackState


def test_the_state_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    assert StackState.load(home) is None
    state = StackState(start="2025-01-01", landers=3, example=False)
    port = state.choose_port("kafka")
    state.save(home)
    again = StackState.load(home)
    assert again == state
    assert again is not None
    assert again.choose_port("kafka") == port
    assert again.choose_port("kafka", given=12345) == 12345


@pytest.mark.parametrize("text", ["", "{", '{"ports": {}}', '{"start": "2025-01-01", "unknown": 1}'])
def test_a_damaged_state_is_named(tmp_path: Path, text: str) -> None:
    home = Home.at(tmp_path)
    home.state_file.write_text(text)
    with pytest.raises(StackError, match=r"stack\.json cannot be read"):
        StackState.load(home)


@pytest.mark.parametrize(
    ("now", "start"),
    [
        ("2025-01-01T00:00:00", "2024-12-01"),
        ("2025-03-31T23:59:59", "2025-02-01"),
        ("2024-03-01T00:00:00", "2024-02-01"),
    ],
)
def test_partitions_start_with_the_previous_month(monkeypatch: pytest.MonkeyPatch, now: str, start: str) -> None:
    monkeypatch.delenv(START_VARIABLE, raising=False)
    assert StackState.first(datetime.fromisoformat(now).replace(tzinfo=UTC)).start == start


def test_the_environment_decides_the_start_and_must_name_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(START_VARIABLE, "2025-06-07")
    assert StackState.first(datetime.now(UTC)).start == "2025-06-07"
    monkeypatch.setenv(START_VARIABLE, "soon")
    with pytest.raises(StackError, match="soon is not a date"):
        StackState.first(datetime.now(UTC))


def test_a_write_that_fails_leaves_the_former_content(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_deep_home_has_its_sockets_elsewhere_and_always_in_the_same_place(tmp_path: Path) -> None:
    assert Home.at(Path("/h")).socket_folder == Path("/h/run")
    deep = Home.at(tmp_path / ("x" * 200))
    assert len(str(deep.supervisor_socket)) < 100
    assert deep.socket_folder == Home.at(tmp_path / ("x" * 200)).socket_folder
    assert deep.socket_folder != Home.at(tmp_path / ("y" * 200)).socket_folder
