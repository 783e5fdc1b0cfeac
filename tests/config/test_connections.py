"""Connections of the web server, without a network."""

import socket
from unittest.mock import Mock

import pytest
from waitress.adjustments import Adjustments
from waitress.channel import ClientDisconnected

from config.web.connections import Connection
from config.web.parsing import Parser
from tests.patches import failing


def test_a_caller_who_hangs_up_during_a_refusal_causes_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        adjustments = Adjustments()
        connection = Connection(Mock(active_channels={}), ours, "", adjustments, map={})
        refused = Parser(adjustments, is_excess=True)
        refused.received(b"GET / HTTP/1.1\r\n\r\n")
        connection.requests = [refused]
        monkeypatch.setattr(connection, "write_soon", failing(ClientDisconnected))

        connection.service()

    assert connection.close_when_flushed
    assert connection.requests == []
