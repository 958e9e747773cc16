"""Ports of the local machine: choosing free ones, and naming who holds a taken one."""

import random
import socket

import psutil

from incident_pipelines.stack.errors import PortTakenError

HOST = "127.0.0.1"
# Below the range from which the kernel takes ports for outgoing connections, so that a remembered port stays free.
_RANGE = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def choose_free_port(taken: set[int]) -> int:
    """A free port that is not among those already given out."""
    # SystemRandom: a seeded test must not make two stacks choose the same ports.
    for port in random.SystemRandom().sample(_RANGE, k=len(_RANGE)):
        if port not in taken and is_free(port):
            return port
    raise PortTakenError(f"no free port between {_RANGE.start} and {_RANGE.stop - 1}")


def holder_of(port: int) -> str | None:
    """Who listens on the port, such as `nginx (pid 4711)`, as far as this user may know."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return None
    for connection in connections:
        # A closed socket has an empty tuple for its address.
        listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,)
        if listens and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.Error:
                return f"pid {connection.pid}"
    return None


def require_free(port: int, purpose: str, option: str | None) -> None:
    """Check that a chosen or remembered port can be used.

    Args:
        purpose: What needs it, for the message.
        option: The command-line option that sets another one, if there is one.

    Raises:
        PortTakenError: Somebody listens on it.
    """
    if is_free(port):
        return
    holder = holder_of(port)
    raise PortTakenError(
        f"port {port} for {purpose} is in use" + (f" by {holder}" if holder else ""),
        f"stop that program, or give another port with {option}" if option else "stop that program",
    )


def accepts_connections(port: int) -> bool:
    """Whether something answers on the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0
