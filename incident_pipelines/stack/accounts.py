"""The unprivileged account that runs PostgreSQL when the stack is started by root, which PostgreSQL refuses."""

import os
import pwd
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from incident_pipelines.stack.errors import StackError

_ACL = "system.posix_acl_access"
_ACL_VERSION = 2
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_UNDEFINED_ID = 0xFFFF_FFFF
_EXECUTE = 1
# A numeric id needs no useradd; it is in the part of the range that no distribution assigns.
_DEDICATED_IDS = range(58_731, 58_741)
_DROP_PRIVILEGES = (
    "import os,sys;i=int(sys.argv[1]);os.setgroups([]);os.setgid(i);os.setuid(i);os.execv(sys.argv[2],sys.argv[2:])"
)


def account_for(data: Path) -> int | None:
    """The user id that has to run PostgreSQL over a data folder.

    Args:
        data: The data folder; its owner decides when it exists already.

    Returns:
        None when the current user can do it.

    Raises:
        StackError: This user namespace maps no other user.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        return data.stat().st_uid
    known = {entry.pw_uid for entry in pwd.getpwall()}
    for user_id in _DEDICATED_IDS:
        if user_id not in known and _is_mapped(user_id):
            return user_id
    raise StackError(
        "PostgreSQL does not run as root, and no other user id can be used here",
        "start the stack as an ordinary user",
    )


def known_account() -> int:
    """An unprivileged user id that has an entry in the user database: initdb asks for its name.

    Raises:
        StackError: There is none.
    """
    names = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}
    candidates = [names["nobody"]] if "nobody" in names else []
    candidates += sorted((user_id for user_id in names.values() if user_id), reverse=True)
    for user_id in candidates:
        if _is_mapped(user_id):
            return user_id
    raise StackError("no unprivileged user is known to this system", "start the stack as an ordinary user")


def as_account(user_id: int | None, command: tuple[str, ...]) -> tuple[str, ...]:
    """The command that runs a program as another user in the same process, so that signals reach the program."""
    if user_id is None:
        return command
    return (sys.executable, "-I", "-S", "-c", _DROP_PRIVILEGES, str(user_id), *command)


def give_folder(folder: Path, user_id: int | None) -> None:
    """Make an account the owner of a folder and everything in it."""
    if user_id is None:
        return
    for parent, _, files in os.walk(folder):
        os.chown(parent, user_id, user_id)
        for name in files:
            os.chown(os.path.join(parent, name), user_id, user_id, follow_symlinks=False)


def let_reach(folder: Path, user_id: int | None, report: Callable[[str], None] = lambda _: None) -> list[Path]:
    """Let an account walk through a folder and its parents, without letting anybody list or read them.

    Where a parent is closed, the account alone gets the right to pass (a POSIX access control list); on file systems
    without such lists everybody may pass, and still nobody may list it.

    Args:
        report: Told of each folder that was changed.

    Returns:
        The folders whose access control list was changed.
    """
    if user_id is None:
        return []
    granted: list[Path] = []
    for parent in (folder, *folder.parents):
        if _may_pass(parent, user_id):
            continue
        if _grant_by_list(parent, user_id):
            granted.append(parent)
            report(f"user {user_id} (PostgreSQL) may now pass through {parent}")
        else:
            parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
            report(f"{parent} can now be passed through, not listed, by every user: PostgreSQL is not run as root")
    return granted


def take_back(folders: list[Path], user_id: int) -> None:
    """Undo what `let_reach` granted to an account that needed it for a moment."""
    for folder in folders:
        _write_list(folder, [entry for entry in _read_list(folder) if (entry[0], entry[2]) != (_USER, user_id)])


def let_read(tree: Path, user_id: int | None) -> None:
    """Make installed programs readable to all, which an installation under a strict umask is not."""
    if user_id is None:
        return
    for parent, _, files in os.walk(tree):
        _add_mode(Path(parent), 0o555)
        for name in files:
            path = Path(parent, name)
            if not path.is_symlink():
                executable = path.stat().st_mode & stat.S_IXUSR
                _add_mode(path, 0o555 if executable else 0o444)


def _add_mode(path: Path, mode: int) -> None:
    current = path.stat().st_mode
    if current & mode != mode:
        path.chmod(current | mode)


def _is_mapped(user_id: int) -> bool:
    try:
        lines = Path("/proc/self/uid_map").read_text().splitlines()
    except OSError:
        return True
    return any(first <= user_id < first + count for first, _, count in (map(int, line.split()) for line in lines))


def _may_pass(folder: Path, user_id: int) -> bool:
    status = folder.stat()
    if status.st_uid == user_id:
        return bool(status.st_mode & stat.S_IXUSR)
    entries = _read_list(folder)
    granted = [permission for tag, permission, owner in entries if (tag, owner) == (_USER, user_id)]
    if not granted:
        return bool(status.st_mode & stat.S_IXOTH)
    # A later chmod narrows the mask, and with it what the entry is worth.
    mask = next((permission for tag, permission, _ in entries if tag == _MASK), _EXECUTE)
    return bool(granted[0] & mask & _EXECUTE)


def _read_list(folder: Path) -> list[tuple[int, int, int]]:
    try:
        packed = os.getxattr(folder, _ACL)
    except (OSError, AttributeError):
        return []
    return list(struct.iter_unpack("<HHI", packed[4:]))


def _grant_by_list(folder: Path, user_id: int) -> bool:
    mode = folder.stat().st_mode
    owner, group, other = (mode >> 6) & 7, (mode >> 3) & 7, mode & 7
    entries = _read_list(folder) or [
        (_USER_OBJ, owner, _UNDEFINED_ID),
        (_GROUP_OBJ, group, _UNDEFINED_ID),
        (_OTHER, other, _UNDEFINED_ID),
    ]
    mask = next((permission for tag, permission, _ in entries if tag == _MASK), group)
    kept = [entry for entry in entries if entry[0] != _MASK and (entry[0], entry[2]) != (_USER, user_id)]
    kept += [(_USER, _EXECUTE, user_id), (_MASK, mask | _EXECUTE, _UNDEFINED_ID)]
    return _write_list(folder, kept)


def _write_list(folder: Path, entries: list[tuple[int, int, int]]) -> bool:
    ordered = sorted(entries, key=lambda entry: (entry[0], entry[2]))
    packed = struct.pack("<I", _ACL_VERSION) + b"".join(struct.pack("<HHI", *entry) for entry in ordered)
    try:
        os.setxattr(folder, _ACL, packed)
    except (OSError, AttributeError):
        return False
    return True
