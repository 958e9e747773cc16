"""Letting PostgreSQL's account reach its folders."""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from incident_pipelines.stack import accounts

_USER = 58_731


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that only its owner may enter, outside pytest's own, whose permissions other sessions change."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_a_closed_folder_is_opened_to_pass_and_to_no_more(closed: Path) -> None:
    told: list[str] = []
    granted = accounts.let_reach(closed, _USER, told.append)
    assert told
    assert not stat.S_IMODE(closed.stat().st_mode) & (stat.S_IROTH | stat.S_IWOTH)
    again: list[str] = []
    accounts.let_reach(closed, _USER, again.append)
    assert again == []
    closed.chmod(0o700)
    accounts.let_reach(closed, _USER, again.append)
    assert len(again) == 1
    accounts.take_back(granted, _USER)
    if granted:
        accounts.let_reach(closed, _USER, again.append)
        assert len(again) == 2


def test_the_current_user_needs_no_permission(closed: Path) -> None:
    assert accounts.let_reach(closed, None) == []
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert accounts.as_account(None, ("a", "b")) == ("a", "b")


def test_postgres_never_runs_as_root(tmp_path: Path) -> None:
    account = accounts.account_for(tmp_path / "data")
    assert account != 0
    assert (account is None) == (os.geteuid() != 0)
