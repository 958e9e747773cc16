"""Ports: choosing them, and saying who has them."""

import os
import socket

import pytest

from incident_pipelines.stack import ports
from incident_pipelines.stack.errors import PortTakenError


def test_a_taken_port_is_named_with_its_holder_and_the_option() -> None:
    with socket.socket() as server:
        server.bind((ports.HOST, 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"port {port} for Kafka is in use by .*{os.getpid()}") as caught:
            ports.require_free(port, "Kafka", "--kafka-port")
        assert "--kafka-port" in (caught.value.hint or "")
        assert ports.accepts_connections(port)
    ports.require_free(port, "Kafka", "--kafka-port")
    assert not ports.accepts_connections(port)


def test_chosen_ports_differ_and_lie_below_those_of_outgoing_connections() -> None:
    chosen: set[int] = set()
    for _ in range(20):
        chosen.add(ports.choose_free_port(chosen))
    assert len(chosen) == 20
    assert max(chosen) < 32_768
