"""What operators see of resolvers: `health`, metrics, and what expires."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chatbots.models import Chatbot, Resolver
from chatbots.operations.chatbots import change_chatbot, designate_uci
from common.db import execute
from compliance.lookups.client import LookupResult
from compliance.lookups.queue import Lookups, look_up
from compliance.metrics import queries
from compliance.retention.expiry import count_expired, remove_expired
from compliance.work import call_queue, health, lookups
from compliance.work.health_codes import Code
from conversations.models import IdentityLookup
from tests.factories import uci_of
from tests.functional.scans import Watch
from tests.looking_up import begin, lookup_of, with_resolver
from tests.places import asked_about

HOUR = timedelta(hours=1)
RESOLVERS = {Code.RESOLVER_OFF, Code.RESOLVER_FAILING, Code.LOOKUPS_WAIT}


def problems(*chatbots: Chatbot) -> dict[Code, str]:
    found = health.check(chatbots=[one.pk for one in chatbots] or None).problems
    return {problem.code: problem.detail for problem in found if problem.code in RESOLVERS}


def test_health_says_that_a_resolver_fails(chatbot: Chatbot, neighbour: Chatbot, secret: str) -> None:
    since = timezone.now()
    Resolver.objects.update(called_at=since, failing_since=since - HOUR / 2, last_error="bad_status")
    assert problems() == {}
    Resolver.objects.update(failing_since=since - 2 * HOUR)
    assert set(problems()) == {Code.RESOLVER_FAILING}
    assert "acme" in problems()[Code.RESOLVER_FAILING]
    assert "127.0.0.1" not in problems()[Code.RESOLVER_FAILING]
    assert problems(neighbour) == {}
    Resolver.objects.update(called_at=since - 3 * HOUR)  # nothing has come since
    assert problems() == {}
    Resolver.objects.update(called_at=since)
    change_chatbot(chatbot=chatbot, actor="test", changes={"compliance_enabled": False})
    assert problems() == {}


def test_health_says_that_look_ups_wait_or_that_a_resolver_is_off(chatbot: Chatbot, secret: str) -> None:
    begin(chatbot, "c-1")
    assert problems() == {}
    IdentityLookup.objects.update(queued_at=timezone.now() - 2 * HOUR)
    assert set(problems()) == {Code.LOOKUPS_WAIT}
    # What is tried again, such as for a chatter whose token the address refuses, says nothing of the workers.
    IdentityLookup.objects.update(attempts=1)
    assert problems() == {}
    designate_uci(chatbot=chatbot, name="plan", actor="test")
    assert set(problems()) == {Code.RESOLVER_OFF}


def test_metrics_count_look_ups(chatbot, neighbour, receiver, secret, settings) -> None:
    settings.METRICS_TOKEN = "t" * 32
    receiver.answers = [404, 200]
    begin(chatbot, "c-1")
    look_up()
    begin(chatbot, "c-2")
    look_up()
    begin(chatbot, "c-3", "c-4")
    with_resolver(neighbour, receiver.url())
    begin(neighbour, "c-1")
    IdentityLookup.objects.filter(state="pending").update(queued_at=timezone.now() - timedelta(minutes=5))

    text = Client().get("/metrics", headers={"Authorization": "Bearer " + "t" * 32}).content.decode()

    series = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("dca_identity_lookups"))
    states = ("pending", "resolved", "unknown", "failed")
    assert [float(series[f'dca_identity_lookups{{state="{state}"}}']) for state in states] == [3, 1, 1, 0]
    assert 300 <= float(series["dca_identity_lookups_oldest_seconds"]) < 400


def test_metrics_count_look_ups_of_chatbots_that_live_apart(chatbot, neighbour, receiver, secret, shards) -> None:
    shards([chatbot], [neighbour])
    with_resolver(neighbour, receiver.url())
    begin(chatbot, "c-1", "c-2")
    begin(neighbour, "c-1")
    IdentityLookup.objects.filter(chatbot=chatbot).update(queued_at=timezone.now() - timedelta(minutes=5))

    with CaptureQueriesContext(connection) as captured:
        found = queries.chatbot_stats([chatbot.pk, neighbour.pk]).lookups["pending"]

    assert found.number == 3
    assert 300 <= found.oldest_seconds < 400
    asked = asked_about(IdentityLookup, captured, if_it_has="min(one.queued_at)")
    assert asked == [[chatbot.pk], [neighbour.pk]]


def test_look_ups_of_chatbots_that_live_apart_are_locked_apart(chatbot, neighbour, secret, receiver, shards) -> None:
    with_resolver(neighbour, receiver.url("/who-5813"))
    begun = [*begin(chatbot, "c-1"), *begin(neighbour, "c-1")]
    shards([chatbot], [neighbour])

    with CaptureQueriesContext(connection) as captured:
        token = uuid4()
        taken = Lookups().take(token, room=10, busy={})
        Lookups().note(token, [(one, LookupResult(is_unknown=True)) for one in taken])

    assert [lookup_of(one).state for one in begun] == ["unknown", "unknown"]
    asked = asked_about(IdentityLookup, captured, if_it_has="SKIP LOCKED")
    assert asked == [[chatbot.pk]] * 2 + [[neighbour.pk]] * 2, "taken, and noted"


@pytest.mark.usefixtures("storage")  # which is asked for what has expired there
def test_look_ups_expire_some_days_after_they_ended(chatbot: Chatbot, secret: str) -> None:
    begin(chatbot, "c-1", "c-2")
    look_up()
    assert count_expired()["identity_lookups"] == 0
    ended = IdentityLookup.objects.earliest("pk")
    IdentityLookup.objects.filter(pk=ended.pk).update(expires_at=timezone.now() - HOUR)
    assert count_expired()["identity_lookups"] == 1
    remove_expired()
    assert IdentityLookup.objects.get().pk != ended.pk


_BACKLOG = """
WITH stored AS (
    INSERT INTO conversations_conversation (chatbot_id, external_id, external_id_digest, channel, started_at,
           uci_variable_id, message_count, has_file_upload, has_agent_handover, has_push)
    SELECT %(chatbot)s, n, sha256(n::text::bytea), 'widget', now(), %(uci)s, 0, FALSE, FALSE, FALSE
      FROM generate_series(1, 60000) AS n
    RETURNING id, chatbot_id
)
INSERT INTO conversations_identitylookup (chatbot_id, conversation_id, state, attempts, queued_at, next_attempt_at,
       give_up_at, last_error, expires_at)
SELECT chatbot_id, id, 'pending', 0, now(), now() - id * interval '1 second', now() + interval '1 day', '',
       now() + interval '1 day'
  FROM stored
"""


@pytest.mark.long(reason="60,000 look-ups are stored: with fewer PostgreSQL does not think of sorting them")
def test_a_backlog_is_read_one_by_one(chatbot, neighbour, receiver, secret, monkeypatch) -> None:
    """Before PostgreSQL has statistics of it, too."""
    with_resolver(neighbour, receiver.url())
    begin(neighbour, "c-1")
    execute(_BACKLOG, {"chatbot": chatbot.pk, "uci": uci_of(chatbot).pk})
    monkeypatch.setattr(call_queue, "SECONDS_TO_TAKE", 0.01)
    watch = Watch(["conversations_identitylookup"], most_entries=100, monkeypatch=monkeypatch)
    with watch.step("taking"):
        # First, since what one of them sets would hold for the test's transaction.
        taken = Lookups().take(uuid4(), room=32, busy={})
        assert lookups.is_any_due()
        assert set(lookups.oldest([chatbot.pk, neighbour.pk])) == {chatbot.pk, neighbour.pk}
    assert [one.chatbot_id for one in taken] == [neighbour.pk]
    assert watch.statements > 5
    assert watch.findings == []
