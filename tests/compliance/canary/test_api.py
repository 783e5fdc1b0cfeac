"""Calls of the canary: each is made, a service that cannot answer is no finding, and the token goes nowhere else."""

from uuid import UUID

import pytest

from common import outbound
from compliance.canary import api
from compliance.canary.errors import Inconclusive
from compliance.canary.work import Work
from compliance.models import CanaryTurn
from tests.compliance.canary.support import WORDS, Service, places
from tests.factories import NOON

TURN = CanaryTurn(id=UUID(int=1), began_at=NOON)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_service_that_cannot_answer_is_unavailable(service: type[Service], status: int) -> None:
    service.answers["usage"] = status
    with pytest.raises(Inconclusive, match="api_unavailable getUsage"):
        service.client().call("getUsage", "usage")


def test_a_refusal_is_an_answer_and_no_document(service: type[Service]) -> None:
    assert service.client().call("getUsage", "usage")[0] == 403
    with pytest.raises(Inconclusive, match="api_refused"):
        service.client().read("getUsage", "usage")


def test_no_redirect_is_followed_and_no_proxy_asked(service: type[Service], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    service.answers["download"] = 302

    assert service.client().call("downloadFile", "download")[0] == 302
    assert service.calls == [("/api/v1/chatbots/canary/download", "Bearer t")]


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "https://127.0.0.1:9", "https://nothing.invalid", "tls"])
def test_what_cannot_be_reached_is_unavailable(service: type[Service], address: str) -> None:
    service.address = service.address.replace("http:", "https:") if address == "tls" else address
    with pytest.raises(Inconclusive, match="api_unavailable"):
        service.client().call("getUsage", "usage")


def test_a_call_ends_in_time_and_none_begins_late(service: type[Service], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compliance.canary.client.CALL_SECONDS", 0.2)
    service.answers["usage"] = None
    with pytest.raises(Inconclusive, match="api_unavailable"):
        service.client().call("getUsage", "usage")
    with outbound.within(4), pytest.raises(Inconclusive, match="too_long getUsage"):
        service.client().call("getUsage", "usage")
    assert len(service.calls) == 1


def test_a_call_that_is_refused_does_not_end_the_search(service: type[Service]) -> None:
    service.answers = {
        "extracts": {},
        "usage": {"who": WORDS.value},
        "preview": {"deletion": {"erased": {"files": 1}}},
    }
    work = Work(TURN)
    work.client = service.client()

    api.scan(work)

    assert places(work) == ["getUsage", "previewRequest"]
    assert str(work.trouble) == "api_refused lookUpConversations"
