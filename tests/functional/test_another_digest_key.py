"""After another DIGEST_KEY was accepted, what is stored in the clear is found again."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError
from django.db import connection
from pytest_django import Settings

from chatbots.models import Chatbot, DigestKey
from common.crypto import digest, fingerprint
from compliance import digests
from compliance.cluster import heartbeats
from compliance.models import ComplianceRequest
from conversations.models import Conversation, Identity
from tests import commands
from tests.functional.company import Company, became, document, settle
from tests.holding import place
from tests.patches import failing
from tests.under_roles import role


def run(*words: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = commands.run("recompute_digests", "--json", *words)
    return code, json.loads(out)


@pytest.fixture
def accept(settings: Settings) -> Iterator[Callable[[], None]]:
    """Accept another key, as in docs/operators/digest-key.md: the fingerprint of the former is replaced."""
    key = settings.DIGEST_KEY

    def take_over(key: bytes = b"\7" * 32) -> None:
        settings.DIGEST_KEY = key
        DigestKey.objects.update(fingerprint=fingerprint())

    yield take_over
    take_over(key)


@pytest.fixture
def others(neighbour: Chatbot) -> Company:
    others = Company(neighbour)
    others.send(document("c-1", "42"), document("c-2", "43"))
    return others


def test_deletions_find_what_was_stored_under_the_key_before(company, others, accept) -> None:
    company.send(document("c-1", "42"), document("c-2", "43"), document("c-3", "43"), document("c-4"))
    company.delete("42")
    settle()
    accept()

    assert run("--dry-run")[0] == 3
    code, found = run()

    assert code == 0
    assert found["identities"] == {"rows": 4, "wrong": 4, "left": 0}
    assert found["conversations"] == {"rows": 5, "wrong": 5, "left": 0}
    assert run("--dry-run")[0] == 0
    # A document that is sent again meets its conversation, and requests find both ways.
    assert became(company.send(document("c-2", "43"))) == ["unchanged"]
    company.delete("43")
    company.delete(["c-4"])
    settle()
    assert not Conversation.objects.filter(chatbot=company.chatbot, deleted_at__isnull=True).exists()
    assert Conversation.objects.filter(chatbot=others.chatbot, deleted_at__isnull=True).count() == 2
    assert set(Identity.objects.filter(chatbot=others.chatbot).values_list("value", flat=True)) == {"42", "43"}


@pytest.mark.parametrize("subject", ["42", ["c-1"]])
def test_a_legal_hold_covers_the_same_data(company: Company, accept: Callable[[], None], subject) -> None:
    company.send(document("c-1", "42"))
    place(company.chatbot, subject)
    accept()
    assert run()[0] == 0
    deletion = company.delete("42")
    settle()
    assert company.status(deletion) == "on_hold"


def test_an_open_request_is_of_its_chatter_again(company: Company, accept: Callable[[], None]) -> None:
    company.send(document("c-1", "42"))
    filed = company.delete("42")
    accept()

    assert run()[1]["requests"] == {"rows": 1, "wrong": 1, "left": 0}

    request = ComplianceRequest.objects.get(pk=filed)
    assert request.variable is not None
    assert bytes(request.uci_digest or b"") == digest("chatter", request.variable.public_id, "42")


def test_an_open_request_by_ids_names_its_conversations_still(company, others, accept) -> None:
    company.send(document("c-1", "42"), document("c-2", "42"), document("c-3", "42"))
    company.delete(["c-1", "c-2"])
    kept = others.delete(["c-unknown"])
    named = ComplianceRequest.objects.get(pk=kept).conversation_digests
    accept()

    run()
    settle()

    live = Conversation.objects.filter(deleted_at__isnull=True).values_list("chatbot", "external_id")
    assert set(live) == {(company.chatbot.pk, "c-3"), (others.chatbot.pk, "c-1"), (others.chatbot.pk, "c-2")}
    assert ComplianceRequest.objects.get(pk=kept).conversation_digests == named


def test_requests_are_read_in_pages_without_a_cursor_of_the_session(company, accept, monkeypatch) -> None:
    """A pooler in transaction mode gives the next page another session."""
    monkeypatch.setattr(digests, "_BATCH_ROWS", 2)
    monkeypatch.setattr(connection, "chunked_cursor", None)
    for value in "12345":
        company.delete(value)
    accept()

    assert run()[1]["requests"] == {"rows": 5, "wrong": 5, "left": 0}
    assert run("--dry-run")[1]["requests"] == {"rows": 5, "wrong": 0, "left": 0}


def test_a_run_that_was_killed_is_continued(company, accept, monkeypatch) -> None:
    monkeypatch.setattr(digests, "_BATCH_ROWS", 2)
    company.send(*(document(f"c-{number}", "42") for number in range(5)))
    accept()

    with role("owner"), pytest.raises(KeyboardInterrupt):
        digests.recompute(progress=failing(KeyboardInterrupt))
    _, found = run()

    assert (found["conversations"]["wrong"], found["identities"]["wrong"]) == (3, 5)
    assert run("--dry-run")[0] == 0


def test_what_was_stored_twice_is_told(company: Company, accept: Callable[[], None]) -> None:
    company.send(document("c-1", "42"), document("c-2", "42"))
    accept()
    company.send(document("c-1", "42"))

    code, found = run()

    assert code == 3
    assert found["conversations"] == {"rows": 3, "wrong": 2, "left": 1}
    assert found["identities"]["left"] == 0


def test_it_does_not_run_beside_workers(company: Company, accept: Callable[[], None]) -> None:
    company.send(document("c-1", "42"))
    accept()
    heartbeats.seen(cluster_id=uuid4(), name="host:1", workers=2, stopped=False)
    with pytest.raises(CommandError, match="Stop web server and workers first"):
        run()
    assert run("--dry-run")[0] == 3
