"""Fetch the page of a request in tests."""

from typing import Any

from django.test import Client

from compliance.models import ComplianceRequest
from compliance.requests.reasons import Decision


def address(request: ComplianceRequest, *below: str) -> str:
    return "/".join(["/admin/requests", str(request.pk), *below, ""])


def text_of(client: Client, request: ComplianceRequest) -> str:
    answer = client.get(address(request))
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    return answer.text


def decide(client: Client, request: ComplianceRequest, action: str, reason: str = "other", note: str = "") -> Any:
    return client.post(address(request, action), {f"{action}-reason": reason, f"{action}-note": note})


def offered(text: str) -> set[str]:
    return {decision.value for decision in Decision if f'data-opens="decide-{decision}"' in text}
