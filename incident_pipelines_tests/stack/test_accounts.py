"""Letting PostgreSQL's account reach its folders."""

import os
import stat
from pathlib import Path

from incident_pipelines.stack import accounts

_USER = 58_731


def test_a_closed_folder_is_opened_to_pass_and_to_no_more(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    told: list[str] = []
    granted = accounts.let_reach(closed, _USER, told.append)
    assert told
    assert not stat.S_IMODE(closed.stat().st_mode) & (stat.S_IROTH | stat.S_IWOTH)
    again: list[str] = []
    accounts.let_reach(closed, _USER, again.append)
    assert again == []
    accounts.take_back(granted, _USER)
    if granted:
        accounts.let_reach(closed, _USER, again.append)
        assert again


def test_the_current_user_needs_no_permission(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert accounts.let_reach(closed, None) == []
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert accounts.as_account(None, ("a", "b")) == ("a", "b")


def test_postgres_never_runs_as_root(tmp_path: Path) -> None:
    account = accounts.account_for(tmp_path / "data")
    assert account != 0
    assert (account is None) == (os.geteuid() != 0)
