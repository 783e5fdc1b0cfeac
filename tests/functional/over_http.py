"""Calls over a real connection to a real web server, instead of Django's test client."""

import json
from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse

from tests.functional.web import WebServer


class HttpClient:
    """What callers (`tests/calls.py`) need of Django's test client."""

    def __init__(self, server: WebServer) -> None:
        self._server = server

    def get(self, path: str, *, headers: Mapping[str, str]) -> Any:
        return self._answer("GET", path, b"", headers)

    def generic(
        self, method: str, path: str, body: bytes, content_type: str, *, headers: Mapping[str, str], **_: str
    ) -> Any:
        return self._answer(method, path, body, {**headers, "Content-Type": content_type})

    def _answer(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Any:
        connection = self._server.connect()
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        found: Any = HttpResponse(content, status=answer.status, headers=dict(answer.getheaders()))
        found.json = lambda: json.loads(content)
        return found
