import io
from typing import Any

import pytest
from django.test import RequestFactory

from config.handler import Handler

pytestmark = pytest.mark.usefixtures("one_connection")


@pytest.mark.parametrize("header", ["application/json; charset*=x''a", "a/b; c*=utf-8''%ff; charset=nonsense"])
def test_an_unreadable_content_type_returns_a_problem_and_not_500(header: str) -> None:
    environ: dict[str, Any] = RequestFactory().generic("POST", "/api/v1/chatbots/acme/data-deletion", b"{}").environ
    environ |= {"CONTENT_TYPE": header, "wsgi.input": io.BytesIO(b"{}")}
    statuses: list[str] = []

    def start_response(status: str, *_: Any) -> Any:
        statuses.append(status)

    body = b"".join(Handler()(environ, start_response))

    assert statuses[0].startswith(("401", "415"))
    assert b'"code"' in body
